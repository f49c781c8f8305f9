/**
 * A pair's score is bitwise the same alone, in any batch, at any position, with one thread or two.
 */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Reranker } from "../lib/index.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";
import { texts } from "./fixtures/texts.js";

const queries = ["panda", "what is the giant panda bear", "東京", "x ".repeat(40)];
const words = ["panda", "bear", "the", "giant", "of", "china", "東", "zebra", "?"];
const pool = [
  ...texts,
  ...Array.from({ length: 60 }, (_, i) =>
    Array.from({ length: (i * i) % 140 }, (_, j) => words[(i * 5 + j * 3) % words.length]).join(" "),
  ),
];

for (const [name, shape] of [
  ["a width of whole vectors", { hidden: 64, heads: 4, intermediate: 128 }],
  ["a width that leaves remainders", { hidden: 36, heads: 3, intermediate: 50 }],
  ["heads conditioned on the query", { hidden: 36, heads: 3, intermediate: 50, head: "query" }],
] as const) {
  describe(`a score, with ${name}`, () => {
    let model: TestModel;
    let rerankers: Reranker[];
    let alone: Map<string, Float32Array[]>;
    const key = (query: string, document: string) => `${query}\0${document}`;

    beforeAll(async () => {
      model = makeModel(shape);
      rerankers = await Promise.all(
        [1, 2].map((threads) => Reranker.open(model.directory, { device: "cpu", dtype: "f32", threads })),
      );
      alone = new Map();
      for (const query of queries)
        for (const document of pool) {
          const { logits, layers } = await rerankers[0]!.score([{ query, document }]);
          alone.set(
            key(query, document),
            layers.map((layer) => logits[layer]!),
          );
        }
    });
    afterAll(async () => {
      for (const reranker of rerankers) await reranker.close();
      model.remove();
    });

    it("never depends on its company, its place or the number of threads", async () => {
      const pair = fc.record({ query: fc.constantFrom(...queries), document: fc.constantFrom(...pool) });
      await fc.assert(
        fc.asyncProperty(fc.array(pair, { minLength: 1, maxLength: 60 }), fc.nat(1), async (pairs, which) => {
          const { logits, layers } = await rerankers[which]!.score(pairs);
          for (const [i, { query, document }] of pairs.entries())
            for (const [l, layer] of layers.entries())
              if (!Object.is(logits[layer]![i], alone.get(key(query, document))![l]![0]))
                throw new Error(`layer ${layer} of pair ${i} differs: ${JSON.stringify([query, document])}`);
        }),
        { numRuns: 250 },
      );
    });

    it("is the same where batches are many and full", async () => {
      const pairs = Array.from({ length: 1_000 }, (_, i) => ({
        query: queries[i % 4]!,
        document: pool[(i * 7) % pool.length]!,
      }));
      for (const reranker of rerankers) {
        const { logits } = await reranker.score(pairs);
        for (const [i, { query, document }] of pairs.entries())
          expect(logits[4]![i]).toBe(alone.get(key(query, document))![3]![0]);
      }
    });
  });
}
