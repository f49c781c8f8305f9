/**
 * rerank: every document scored, the best first.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stopFlops } from "../lib/exit/cost.js";
import { Reranker } from "../lib/index.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
let reranker: Reranker;
beforeAll(async () => {
  model = makeModel();
  reranker = await Reranker.open(model.directory, { dtype: "f32" });
});
afterAll(async () => {
  await reranker.close();
  model.remove();
});

const query = "what is the giant panda";
const documents = [
  "a bear of china",
  "",
  "bread",
  "the giant panda is a bear",
  "a bear of china",
  "日本の東京",
  "\ud800 lone",
];
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

describe("results", () => {
  it("come best first, ties in the order of the input, each document once", async () => {
    const { results } = await reranker.rerank(query, documents);
    expect(results.map(({ index }) => index).sort()).toEqual(documents.map((_, i) => i));
    for (const [i, { score, index }] of results.entries()) {
      if (i === 0) continue;
      const before = results[i - 1]!;
      expect(before.score).toBeGreaterThanOrEqual(score);
      if (before.score === score) expect(before.index).toBeLessThan(index);
    }
    const ties = results.filter(({ index }) => index === 0 || index === 4);
    expect(ties.map(({ index }) => index)).toEqual([0, 4]);
    expect(ties[0]!.logit).toBe(ties[1]!.logit);
  });

  it("carry the sigmoid of the logit, or the logit itself", async () => {
    const activated = await reranker.rerank(query, documents);
    for (const { score, logit } of activated.results) expect(score).toBe(sigmoid(logit));
    const raw = await reranker.rerank(query, documents, { activation: "none" });
    for (const [i, { score, logit }] of raw.results.entries()) {
      expect(score).toBe(logit);
      expect(logit).toBe(activated.results[i]!.logit);
    }
  });

  it("are the first topN of them", async () => {
    const all = await reranker.rerank(query, documents);
    for (const topN of [1, 3, 100]) {
      const { results, stats } = await reranker.rerank(query, documents, { topN });
      expect(results).toEqual(all.results.slice(0, topN));
      expect(stats.sequences).toBe(documents.length);
    }
  });

  it("carry their document only where asked, the very object that came in", async () => {
    const objects = documents.map((text, id) => ({ id, text, nested: { id } }));
    const plain = await reranker.rerank(query, documents);
    expect(plain.results[0]).not.toHaveProperty("document");
    const { results } = await reranker.rerank(query, objects, { returnDocuments: true });
    for (const { index, document } of results) expect(document).toBe(objects[index]);
    expect(results.map(({ logit }) => logit)).toEqual(plain.results.map(({ logit }) => logit));
  });

  it("carry the logits of the layers asked for", async () => {
    const { logits } = await reranker.score(documents.map((document) => ({ query, document })));
    const all = await reranker.rerank(query, documents, { layers: "all" });
    for (const { index, logits: mine, logit } of all.results) {
      expect(Object.keys(mine!)).toEqual(["1", "2", "3", "4"]);
      for (const layer of [1, 2, 3, 4]) expect(mine![layer]).toBe(logits[layer]![index]);
      expect(mine![4]).toBe(logit);
    }
    const some = await reranker.rerank(query, documents, { layers: [3] });
    expect(Object.keys(some.results[0]!.logits!)).toEqual(["3"]);
    expect((await reranker.rerank(query, documents)).results[0]).not.toHaveProperty("logits");
  });

  it("come with the tokens of each pair, of all its windows where it is cut into some", async () => {
    const pairs = [...documents, "bear ".repeat(50)].map((document) => ({ query, document }));
    for (const truncation of ["document", "chunk-max"] as const) {
      const options = { maxLength: 24, truncation };
      const { tokens, stats } = await reranker.score(pairs, options);
      for (const [i, pair] of pairs.entries())
        expect(tokens[i]).toBe((await reranker.score([pair], options)).stats.tokens);
      expect(tokens.reduce((sum, each) => sum + each, 0)).toBe(stats.tokens);
      if (truncation === "document") expect(tokens.at(-1)).toBe(24);
      else expect(tokens.at(-1)).toBeGreaterThan(50);
    }
  });

  it("of no documents are none", async () => {
    const { results, stats } = await reranker.rerank(query, []);
    expect(results).toEqual([]);
    expect(stats).toMatchObject({ sequences: 0, tokens: 0, truncated: 0, computeFraction: 1, exitHistogram: {} });
  });
});

describe("exit", () => {
  it("full is exact", async () => {
    const { results, stats } = await reranker.rerank(query, documents);
    for (const { exact, exitLayer } of results) expect([exact, exitLayer]).toEqual([true, 4]);
    expect(stats).toMatchObject({ computeFraction: 1, exitHistogram: { 4: documents.length } });
  });

  it("at a layer gives that layer's scores and costs what its layers cost", async () => {
    const { logits } = await reranker.score(documents.map((document) => ({ query, document })));
    for (const layer of [1, 2, 3, 4]) {
      const { results, stats } = await reranker.rerank(query, documents.slice(3, 4), {
        exit: { type: "layer", layer },
      });
      const [{ logit, exitLayer, exact }] = results as [(typeof results)[0]];
      expect(logit).toBe(logits[layer]![3]);
      expect([exitLayer, exact]).toEqual([layer, layer === 4]);
      expect(stats.exitHistogram).toEqual({ [layer]: 1 });
      const cost = (l: number) => stopFlops(reranker.info, stats.tokens, l);
      expect(stats.computeFraction).toBeCloseTo(cost(layer) / cost(4), 12);
    }
  });

  it("at a layer names the exits where there is none", async () => {
    await expect(reranker.rerank(query, documents, { exit: { type: "layer", layer: 9 } })).rejects.toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringContaining("1, 2, 3, 4"),
    });
  });
});

describe("length", () => {
  const long = "panda ".repeat(500);

  it("is cut to maxLength, counted in stats", async () => {
    const { stats } = await reranker.rerank("bear", [long, "x"], { maxLength: 20 });
    expect(stats).toMatchObject({ truncated: 1, sequences: 2, tokens: 20 + 5 });
    const same = await reranker.rerank("bear", ["panda ".repeat(16)], { maxLength: 20 });
    expect(same.stats.truncated).toBe(0);
  });

  it("is the model's own limit by default", async () => {
    const { stats } = await reranker.rerank("bear", [long]);
    expect(stats.tokens).toBe(128);
  });

  it("is an error where the caller wants one", async () => {
    await expect(reranker.rerank("bear", ["x", long], { truncation: "error" })).rejects.toMatchObject({
      code: "ERR_INPUT_TOO_LONG",
      message: expect.stringContaining("documents[1]"),
    });
    expect((await reranker.rerank("bear", ["x"], { truncation: "error" })).results).toHaveLength(1);
  });

  it('under "chunk-max" is the best of the windows', async () => {
    const document = `${"x ".repeat(40)} panda bear ${"y ".repeat(40)}`;
    const options = { maxLength: 24, truncation: "chunk-max", layers: "all" } as const;
    const { results, stats } = await reranker.rerank("bear", [document, "y"], options);
    const room = 24 - 4;
    const words = document.trim().split(/\s+/);
    const windows: string[] = [];
    for (let at = 0; at === 0 || at + (room >> 2) < words.length; at += room - (room >> 2))
      windows.push(words.slice(at, at + room).join(" "));
    expect(stats.sequences).toBe(windows.length + 1);
    const alone = await reranker.score(windows.map((window) => ({ query: "bear", document: window })));
    const mine = results.find(({ index }) => index === 0)!;
    for (const layer of [1, 2, 3, 4]) expect(mine.logits![layer]).toBe(Math.max(...alone.logits[layer]!));
    expect(stats.truncated).toBe(0);
    expect(stats.exitHistogram).toEqual({ 4: 2 });
  });
});

describe("wrong input", () => {
  it("an empty query is an error, also for no documents", async () => {
    for (const empty of ["", " \n"])
      await expect(reranker.rerank(empty, [])).rejects.toMatchObject({ code: "ERR_EMPTY_QUERY" });
  });

  it("a document that is no text is an error that names it", async () => {
    await expect(reranker.rerank(query, ["a", 3 as unknown as string])).rejects.toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringContaining("documents[1]"),
    });
  });

  it("a misspelt option is an error that names the right one", async () => {
    await expect(reranker.rerank(query, ["a"], { topK: 3 } as object)).rejects.toMatchObject({
      code: "ERR_UNKNOWN_OPTION",
      message: expect.stringContaining('"topN"'),
    });
  });

  it("a hundred thousand documents are many, but no error", { timeout: 300_000 }, async () => {
    const many = Array.from({ length: 100_000 }, (_, i) => `bear ${i % 1000}`);
    const { results, stats } = await reranker.rerank("panda", many, { exit: { type: "layer", layer: 1 }, topN: 2_000 });
    expect(results).toHaveLength(2_000);
    expect(stats.sequences).toBe(100_000);
    const few = await reranker.rerank("panda", many.slice(0, 1000), { exit: { type: "layer", layer: 1 } });
    expect(results[0]!.logit).toBe(few.results[0]!.logit);
    expect(results.slice(0, 100).map(({ index }) => index)).toEqual(
      Array.from({ length: 100 }, (_, i) => few.results[0]!.index + 1000 * i),
    );
  });

  it("a document of 10 MB costs what its first tokens cost", async () => {
    for (const text of ["panda bear ", "x", "東", " ", "[SEP]"]) {
      const { stats } = await reranker.rerank("panda", [text.repeat(1e7 / text.length)]);
      expect(stats.tokens).toBeLessThanOrEqual(128);
    }
    const { stats } = await reranker.rerank("panda", ["bear ".repeat(2e6)], { maxLength: 16, truncation: "document" });
    expect(stats).toMatchObject({ tokens: 16, truncated: 1 });
  });
});
