/**
 * Exits as callers ask for them: rules, certificates, budgets, deadlines, audits.
 */
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Certificate } from "../lib/certify/certificate.js";
import { firstStageDifficulty, listConfidence } from "../lib/exit/confidence.js";
import { fingerprint } from "../lib/fingerprint.js";
import { Reranker } from "../lib/index.js";
import { makeModel } from "./fixtures/make-model.js";

const model = makeModel({ layers: 4, exitLayers: [1, 2, 3, 4], seed: 9 });
afterAll(() => model.remove());

const documents = Array.from({ length: 30 }, (_, i) => `w${i} ${"w1 w2 w3 ".repeat(i % 4)}`);
const options = { maxLength: 32 } as const;

/** Puts a certificate for the model's own f32 scores into matryoshka.json, with `changes`. */
async function certify(changes: Partial<Certificate> = {}): Promise<void> {
  const certificate: Certificate = {
    ...(await fingerprint(model.directory, { dtype: "f32", maxLength: options.maxLength })),
    kind: "exact-top-k",
    k: 10,
    alpha: 0.05,
    delta: 0.05,
    scale: 1,
    widths: [1, 2, 3].map((layer) => ({ layer, slope: 1, offset: 0, width: 1e-3, trend: 0 })),
    n: 100,
    candidates: { min: 5, max: 100 },
    createdFrom: "test",
    computeFraction: 0.5,
    frontier: [
      { stake: 0, compute: 1, loss: 0 },
      { stake: 0.01, compute: 0.8, loss: 0.001 },
      { stake: 1, compute: 0.3, loss: 0.1 },
    ],
    ...changes,
  };
  const path = join(model.directory, "matryoshka.json");
  const { certificates: _, ...rest } = JSON.parse(readFileSync(path, "utf8")) as { certificates?: unknown };
  writeFileSync(path, JSON.stringify({ ...rest, certificates: [certificate] }));
}

const open = (more = {}) => Reranker.open(model.directory, { dtype: "f32", threads: 1, ...more });

describe("top-k with a certificate", () => {
  it("returns full depth's scores for whoever ran to the end, and everybody else after them", async () => {
    await certify();
    await using reranker = await open();
    const full = await reranker.rerank("w1 w2", documents, options);
    const exact = new Map(full.results.map(({ index, logit }) => [index, logit]));
    const { results, stats } = await reranker.rerank("w1 w2", documents, { ...options, exit: { type: "top-k", k: 5 } });
    expect(stats.certificate).toMatchObject({ holds: true, statement: expect.stringContaining("first 10 results") });
    const stopped = results.findIndex((r) => !r.exact);
    expect(stopped).toBeGreaterThanOrEqual(10);
    expect(results.slice(stopped).every((r) => !r.exact && r.exitLayer < 4)).toBe(true);
    for (const { index, logit } of results.slice(0, stopped)) expect(logit).toBe(exact.get(index));
    expect(stats.computeFraction).toBeLessThan(1);
    expect(Object.values(stats.exitHistogram).reduce((a, b) => a + b)).toBe(documents.length);
  });

  it.each([
    ["another dtype", { dtype: "bf16" }, "dtype"],
    ["another model", { modelHash: "0" }, "model"],
    ["another tokenizer", { tokenizerHash: "0" }, "tokenizer"],
    ["another maximum length", { maxLength: 64 }, "maximum length"],
    ["fewer results", { k: 3 }, "first 3 results"],
    ["shorter lists", { candidates: { min: 5, max: 20 } }, "20 candidates"],
  ])("is void where it was made with %s: full depth runs and the statistics say why", async (_, changes, word) => {
    await certify(changes);
    await using reranker = await open();
    const { stats } = await reranker.rerank("w1", documents, { ...options, exit: { type: "top-k", k: 10 } });
    expect(stats.certificate).toMatchObject({ holds: false, reasons: [expect.stringContaining(word)] });
    expect(stats.computeFraction).toBe(1);
  });

  it("keeps recall by a certificate of its own, or by an exact one", async () => {
    const exit = { type: "top-k", k: 10, promise: "recall" } as const;
    await certify();
    {
      await using reranker = await open();
      const { stats } = await reranker.rerank("w1 w2", documents, { ...options, exit });
      expect(stats.certificate).toMatchObject({ holds: true, statement: expect.stringContaining("exactly what") });
    }
    await certify({ kind: "recall-top-k", scale: 1e-3 });
    await using reranker = await open({ audit: 1 });
    const { stats } = await reranker.rerank("w1 w2", documents, { ...options, exit });
    expect(stats.certificate).toMatchObject({ holds: true, statement: expect.stringContaining("at least 95 % of") });
    // A scale of next to nothing loses some of the first ten, which the audit sees, but hardly ever all of them.
    for (let i = 0; i < 20; i++) await reranker.rerank(`w${i}`, documents, { ...options, exit });
    const { audit } = (await reranker.rerank("w1 w3", documents, { ...options, exit })).stats;
    expect(audit).toMatchObject({ audited: 22, failures: expect.any(Number), alarm: true });
    expect(audit!.failures).toBeGreaterThan(0);
    const exact = await reranker.rerank("w1", documents, { ...options, exit: { type: "top-k", k: 10 } });
    expect(exact.stats).toMatchObject({ computeFraction: 1, certificate: { holds: false } });
    const wrong = { type: "top-k", promise: "recal" } as never;
    await expect(reranker.rerank("w1", documents, { ...options, exit: wrong })).rejects.toMatchObject({
      ...{ code: "ERR_INVALID_ARGUMENT", message: expect.stringContaining("exit.promise") },
    });
  });

  it("takes no evidence from an audited pass that a deadline cut short", async () => {
    await certify({ candidates: { min: 5, max: 4000 } });
    await using reranker = await open({ audit: 1 });
    const many = Array.from({ length: 4000 }, (_, i) => documents[i % documents.length]!);
    const request = { ...options, exit: { type: "top-k" }, deadlineMs: 0.001 } as const;
    const { stats } = await reranker.rerank("w1", many, request);
    expect(stats).toMatchObject({ partial: true, audit: { audited: 0, failures: 0 } });
  });

  it("is ERR_FILE where the model's files are gone before they were hashed", async () => {
    await certify();
    const directory = join(model.directory, "..", "matryoshka-exits-moved");
    cpSync(model.directory, directory, { recursive: true });
    await using reranker = await Reranker.open(directory, { dtype: "f32", threads: 1 });
    rmSync(directory, { recursive: true });
    const lost = reranker.rerank("w1", documents, { ...options, exit: { type: "top-k" } });
    await expect(lost).rejects.toMatchObject({ code: "ERR_FILE", message: expect.stringContaining(directory) });
  });

  it("is audited on the share of queries that was asked for", async () => {
    await certify();
    await using reranker = await open({ audit: 1 });
    for (let i = 0; i < 5; i++) {
      const { results, stats } = await reranker.rerank(`w${i}`, documents, { ...options, exit: { type: "top-k" } });
      expect(stats.audit).toMatchObject({ audited: i + 1, alarm: expect.any(Boolean) });
      expect(results.every((r) => r.exact)).toBe(true);
    }
  });
});

describe("a budget", () => {
  const widths = [1, 2, 3].map((layer) => ({ layer, slope: 1, offset: 0, width: 1 / layer, trend: 0 }));

  it("spends less where it is smaller, promises nothing, and refuses what it cannot meet", async () => {
    await certify({ widths });
    await using reranker = await open();
    const spend = async (compute: number) =>
      (await reranker.rerank("w1", documents, { ...options, exit: { type: "budget", compute } })).stats;
    const [low, high] = [await spend(0.31), await spend(0.9)];
    expect(low.computeFraction).toBeLessThan(high.computeFraction);
    expect(low.certificate).toMatchObject({
      holds: false,
      reasons: [
        expect.stringMatching(
          /^A budget of 0\.31 of full depth promises nothing about the top 10; .* at most 0\.1000 of/,
        ),
      ],
    });
    await expect(spend(0.2)).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
    expect((await spend(1)).computeFraction).toBe(1);
  });

  it("of loss promises it where calibration has bounded it, and runs full depth elsewhere", async () => {
    const frontier = [
      { stake: 0, compute: 1, loss: 0 },
      { stake: 0.001, compute: 0.8, loss: 0.002, bound: 0.02 },
      { stake: 0.1, compute: 0.3, loss: 0.05, bound: 0.1 },
    ];
    const ask = async (loss: number, k = 10, many = documents) => {
      await using reranker = await open({ audit: 1 });
      await reranker.rerank("w3", many, { ...options, exit: { type: "budget", loss, k } });
      return (await reranker.rerank("w1", many, { ...options, exit: { type: "budget", loss, k } })).stats;
    };
    const why = (reason: RegExp) => ({ holds: false, reasons: [expect.stringMatching(reason)] });
    await certify({ widths, frontier });
    expect(await ask(0.02)).toMatchObject({
      certificate: {
        holds: true,
        statement:
          "For queries like the 100 it was calibrated on, the mean drop of nDCG@10, judged by full depth's own scores, is at most " +
          "0.02, with 95 % confidence (δ = 0.05, n = 100, f32, sequences up to 32 tokens, lists of 5 to 100 candidates).",
      },
      audit: { audited: 2, alarm: false },
    });
    expect(await ask(0.01)).toMatchObject({
      computeFraction: 1,
      certificate: why(/^100 calibration queries bound the loss of full depth alone by 0.01: allow more/),
    });
    expect(await ask(0.02, 5)).toMatchObject({ computeFraction: 1, certificate: why(/nDCG@5: run .* --k 5/) });
    expect(await ask(0.02, 10, documents.slice(0, 3))).toMatchObject({
      ...{
        computeFraction: 1,
        certificate: why(/k = 10: it was made on lists of 5 to 100 candidates, this one has 3/),
      },
    });
    expect(await ask(1)).toMatchObject({ certificate: { holds: true } });
    expect(await ask(1)).not.toHaveProperty("audit");
    await using reranker = await open();
    const spent = async (loss: number) =>
      (await reranker.rerank("w1", documents, { ...options, exit: { type: "budget", loss } })).stats.computeFraction;
    expect(await spent(0.1)).toBeLessThan(await spent(0.02));
    await certify({ widths, frontier, dtype: "bf16" });
    expect(await ask(0.1)).toMatchObject({ computeFraction: 1, certificate: why(/made with dtype bf16/) });
    for (const exit of [{ type: "budget" }, { type: "budget", compute: 0.5, loss: 0.1 }] as never[])
      await expect(reranker.rerank("w1", documents, { ...options, exit })).rejects.toMatchObject({
        ...{ code: "ERR_INVALID_ARGUMENT", message: expect.stringContaining("either compute or loss") },
      });
  });

  it("orders all documents together, by scores that whoever went on has in full and others as their list moved on", async () => {
    await certify({ widths });
    await using reranker = await open();
    const full = await reranker.rerank("w1 w2", documents, options);
    const exact = new Map(full.results.map(({ index, logit }) => [index, logit]));
    const exit = { type: "budget", compute: 0.8 } as const;
    const { results } = await reranker.rerank("w1 w2", documents, { ...options, exit });
    expect(results.map(({ logit }) => logit)).toEqual(results.map(({ logit }) => logit).sort((a, b) => b - a));
    for (const { index, logit } of results.filter((each) => each.exact)) expect(logit).toBe(exact.get(index));
    const stopped = results.filter((each) => !each.exact);
    expect(stopped.length).toBeGreaterThan(0);
    expect(stopped.length).toBeLessThan(documents.length);
  });

  it("reads a calibration in another arithmetic or at another length where there is none like this, but not of another model", async () => {
    await certify({ widths, dtype: "bf16", maxLength: 64 });
    await using reranker = await open();
    const exit = { type: "budget", compute: 0.4 } as const;
    const { stats } = await reranker.rerank("w1", documents, { ...options, exit });
    expect(stats.computeFraction).toBeLessThan(1);
    await certify({ modelHash: "another" });
    await using other = await open();
    const { stats: void_ } = await other.rerank("w1", documents, { ...options, exit });
    expect(void_.computeFraction).toBe(1);
    expect(void_.certificate).toMatchObject({
      holds: false,
      reasons: [expect.stringContaining("made with model another")],
    });
  });
});

describe("confidence", () => {
  it("stops everybody where a threshold is tiny, nobody where it is 1", async () => {
    await using reranker = await open();
    const run = async (threshold: number, over: "pair" | "list") =>
      (
        await reranker.rerank("w1", documents, {
          ...options,
          exit: { type: "confidence", over, thresholds: { 2: threshold } },
        })
      ).stats.exitHistogram;
    for (const over of ["pair", "list"] as const) {
      expect(await run(1e-9, over)).toEqual({ 2: documents.length });
      expect(await run(1, over)).toEqual({ 4: documents.length });
    }
  });

  it("stops what the first stage had settled, and asks for its scores", async () => {
    await using reranker = await open();
    const exit = { type: "confidence", thresholds: { 1: 1 }, difficulty: { below: 0.5, k: 5 } } as const;
    const firstStageScores = documents.map((_, i) => documents.length - i);
    const { stats } = await reranker.rerank("w1", documents, { ...options, exit, firstStageScores });
    expect(stats.exitHistogram[1]).toBeGreaterThan(0);
    expect(stats.exitHistogram[4]).toBeGreaterThan(0);
    await expect(reranker.rerank("w1", documents, { ...options, exit })).rejects.toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
      message: expect.stringContaining("firstStageScores"),
    });
  });
});

describe("a list of more than 1,024 documents", () => {
  const many = Array.from({ length: 2500 }, (_, i) => documents[(i * 7) % documents.length]!);
  const long = many.map((text) => `${text} ${"w4 w5 ".repeat(12)}`);

  it.each([
    ["short documents", many],
    ["long ones, which take several batches", long],
  ])("stops what the first stage had settled: %s", async (_, texts) => {
    await using reranker = await open();
    const exit = { type: "confidence", thresholds: { 1: 1 }, difficulty: { below: 0.5, k: 5 } } as const;
    const firstStageScores = texts.map((_, i) => (i * 31) % texts.length);
    const settled = firstStageDifficulty(firstStageScores, 5).map((difficulty) => (difficulty < 0.5 ? 1 : 4));
    const { results } = await reranker.rerank("w1", texts, { ...options, exit, firstStageScores });
    const layers = new Uint8Array(texts.length);
    for (const { index, exitLayer } of results) layers[index] = exitLayer;
    expect([...layers]).toEqual([...settled]);
  });

  it("is decided about in parts of 1,024, however short its documents are", async () => {
    await using reranker = await open();
    const texts = many.slice(0, 1500);
    const { logits } = await reranker.score(
      texts.map((document) => ({ query: "w1", document })),
      { maxLength: options.maxLength },
    );
    const [whole, ...parts] = [[0], [0, 1024], [1024]].map((part) => listConfidence(logits[1]!.slice(...part)));
    const threshold = (whole! + Math.min(...parts)) / 2;
    const exit = { type: "confidence", over: "list", thresholds: { 1: threshold } } as const;
    const { stats } = await reranker.rerank("w1", texts, { ...options, exit });
    expect(stats.exitHistogram).toEqual({ 1: texts.length });
  });
});

describe("a deadline", () => {
  it("ends the call with what is known by then", async () => {
    await using reranker = await open();
    const many = Array.from({ length: 4000 }, (_, i) => documents[i % documents.length]!);
    const { results, stats } = await reranker.rerank("w1", many, { ...options, deadlineMs: 0.001 });
    expect(stats.partial).toBe(true);
    expect(results).toHaveLength(many.length);
    expect(results.every((r) => !r.exact && Number.isFinite(r.logit))).toBe(true);
  });

  it("costs what stopping at that exit costs", async () => {
    await using reranker = await open();
    const cut = await reranker.rerank("w1", documents, { ...options, deadlineMs: 1e-6 });
    const layer = await reranker.rerank("w1", documents, { ...options, exit: { type: "layer", layer: 1 } });
    expect(cut.results).toEqual(layer.results);
    expect(cut.stats.computeFraction).toBe(layer.stats.computeFraction);
  });

  it.each([
    { type: "top-k", k: 10 },
    { type: "budget", loss: 0.002 },
  ] as const)("takes back what %j promises", async (exit) => {
    await certify({
      frontier: [0, 0.01, 1].map((stake) => ({ stake, compute: 1 - stake / 2, loss: 0, bound: 0.001 })),
    });
    await using reranker = await open();
    expect((await reranker.rerank("w1", documents, { ...options, exit })).stats.certificate).toMatchObject({
      holds: true,
    });
    const { stats } = await reranker.rerank("w1", documents, { ...options, exit, deadlineMs: 1e-6 });
    expect(stats.certificate).toMatchObject({ holds: false, reasons: [expect.stringContaining("deadline")] });
  });
});

describe("an exit that makes no sense", () => {
  it.each([
    [{ type: "topk" }, "ERR_INVALID_ARGUMENT"],
    [{ type: "top-k", k: 0 }, "ERR_INVALID_ARGUMENT"],
    [{ type: "top-k", kk: 3 }, "ERR_UNKNOWN_OPTION"],
    [{ type: "budget" }, "ERR_INVALID_ARGUMENT"],
    [{ type: "budget", compute: 2 }, "ERR_INVALID_ARGUMENT"],
    [{ type: "confidence", thresholds: {} }, "ERR_INVALID_ARGUMENT"],
    [{ type: "confidence", thresholds: { 4: 0.5 } }, "ERR_INVALID_ARGUMENT"],
    [{ type: "confidence", thresholds: { 1: 2 } }, "ERR_INVALID_ARGUMENT"],
    [{ type: "layer" }, "ERR_INVALID_ARGUMENT"],
    [{ type: "layer", layer: 9 }, "ERR_INVALID_ARGUMENT"],
  ])("is refused: %j", async (exit, code) => {
    await using reranker = await open();
    await expect(reranker.rerank("w1", documents, { ...options, exit: exit as never })).rejects.toMatchObject({ code });
  });

  it("does not decide about windows of a document", async () => {
    await using reranker = await open();
    const call = reranker.rerank("w1", documents, { ...options, truncation: "chunk-max", exit: { type: "top-k" } });
    await expect(call).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });
});
