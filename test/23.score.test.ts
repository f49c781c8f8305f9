/**
 * score: the raw logit of every pair at every layer asked for.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Reranker } from "../lib/index.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
let reranker: Reranker;
beforeAll(async () => {
  model = makeModel({ exitLayers: [1, 3, 4] });
  reranker = await Reranker.open(model.directory, { dtype: "f32" });
});
afterAll(async () => {
  await reranker.close();
  model.remove();
});

const pairs = Array.from({ length: 40 }, (_, i) => ({ query: `panda ${i >> 2}`, document: "bear ".repeat(i % 7) }));

describe("score", () => {
  it("gives an array a layer, in the order of the pairs", async () => {
    const { layers, logits, stats } = await reranker.score(pairs);
    expect(layers).toEqual([1, 3, 4]);
    expect(Object.keys(logits)).toEqual(["1", "3", "4"]);
    for (const layer of layers) {
      expect(logits[layer]).toBeInstanceOf(Float32Array);
      expect(logits[layer]).toHaveLength(pairs.length);
      expect([...logits[layer]!].every(Number.isFinite)).toBe(true);
    }
    expect(stats).toMatchObject({ sequences: pairs.length, exitHistogram: { 4: pairs.length }, computeFraction: 1 });
    for (const [i, { query, document }] of pairs.entries()) {
      const { results } = await reranker.rerank(query, [document]);
      expect(logits[4]![i]).toBe(results[0]!.logit);
    }
  });

  it("runs no deeper than the deepest layer asked for", async () => {
    const all = await reranker.score(pairs);
    const { layers, logits, stats } = await reranker.score(pairs, { layers: [3, 1] });
    expect(layers).toEqual([1, 3]);
    expect(logits).toEqual({ 1: all.logits[1], 3: all.logits[3] });
    expect(stats.exitHistogram).toEqual({ 3: pairs.length });
    expect(stats.computeFraction).toBeLessThan(1);
  });

  it("gives logits with what they carry of the exit before, whichever layers are asked for", async () => {
    const carrying = makeModel({ exitLayers: [1, 3, 4], carry: [0, 0.25, 0.5] });
    await using other = await Reranker.open(carrying.directory, { dtype: "f32" });
    expect(other.info.carry).toEqual([0, 0.25, 0.5]);
    const [{ logits: heads }, { logits }] = [await reranker.score(pairs), await other.score(pairs)];
    for (let i = 0; i < pairs.length; i++) {
      const [first, second, third] = [1, 3, 4].map((layer) => heads[layer]![i]!) as [number, number, number];
      const carried = 0.75 * second + 0.25 * first;
      expect(logits[1]![i]).toBe(first);
      expect(logits[3]![i]).toBeCloseTo(carried, 5);
      expect(logits[4]![i]).toBeCloseTo(0.5 * third + 0.5 * carried, 5);
    }
    for (const layer of [3, 4])
      expect((await other.score(pairs, { layers: [layer] })).logits[layer]).toEqual(logits[layer]);
    carrying.remove();
  });

  it("of no pairs is empty", async () => {
    expect((await reranker.score([])).logits).toEqual({
      1: new Float32Array(0),
      3: new Float32Array(0),
      4: new Float32Array(0),
    });
  });

  it("names the pair that is wrong", async () => {
    const wrong = (pair: object, code: string) =>
      expect(reranker.score([pairs[0]!, pair as { query: string; document: string }])).rejects.toMatchObject({
        code,
        message: expect.stringContaining("pairs[1]"),
      });
    await wrong({ query: "a" }, "ERR_INVALID_ARGUMENT");
    await wrong({ query: "", document: "a" }, "ERR_EMPTY_QUERY");
    await expect(
      reranker.score([pairs[0]!, { query: "a", document: "b ".repeat(999) }], { truncation: "error" }),
    ).rejects.toMatchObject({ code: "ERR_INPUT_TOO_LONG", message: expect.stringContaining("pairs[1].document") });
  });
});
