/**
 * Opening a model: what it tells, and what it refuses.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chooseDtype, DEFAULT_MODEL, inspectModel, machine, type OpenOptions, Reranker } from "../lib/index.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
beforeAll(() => {
  model = makeModel({ exitLayers: [2, 4] });
});
afterAll(() => model.remove());

const refused = (directory: string, code: string, options: OpenOptions = {}) =>
  expect(Reranker.open(directory, options)).rejects.toMatchObject({ name: "MatryoshkaError", code });

describe("an opened model", () => {
  it("tells what it is and what runs it", async () => {
    await using reranker = await Reranker.open(model.directory, { dtype: "f32", threads: 1 });
    expect(reranker.info).toMatchObject({
      ...{ directory: model.directory, family: "bert", layers: 4, hidden: 32, heads: 4, intermediate: 64 },
      ...{ maxTokens: 128, exitLayers: [2, 4], head: "linear", provenance: { base: "random" } },
      backend: expect.stringMatching(/^cpu f32 .* 1 thread$/),
    });
  });

  it("is the bundled one by default", async () => {
    await using reranker = await Reranker.open();
    expect(reranker.info).toMatchObject({ directory: DEFAULT_MODEL, layers: 12, hidden: 384 });
    expect(reranker.info.backend).toContain(`${availableParallelism()} thread`);
  });

  it("runs in the arithmetic and on the device it was asked for", async () => {
    await using reference = await Reranker.open(model.directory, { device: "reference" });
    expect(reference.info.backend).toContain("reference f64");
  });

  it("may be one of several", async () => {
    const others = [makeModel({ seed: 2, layers: 2 }), makeModel({ seed: 3, hidden: 16 })];
    const all = await Promise.all(
      [model, ...others].map(({ directory }) => Reranker.open(directory, { dtype: "f32" })),
    );
    const scores = await Promise.all(all.map((reranker) => reranker.rerank("panda", ["bear"])));
    expect(new Set(scores.map(({ results }) => results[0]!.logit)).size).toBe(3);
    for (const reranker of all) await reranker.close();
    for (const other of others) other.remove();
  });

  it("may have heads conditioned on the query", async () => {
    const conditioned = makeModel({ head: "query" });
    await using reranker = await Reranker.open(conditioned.directory, { dtype: "f32" });
    expect(reranker.info.head).toBe("query");
    const { results } = await reranker.rerank("panda", ["bear", "giant panda"]);
    const { logits } = await reranker.score([{ query: "panda", document: "bear" }]);
    expect(results.find(({ index }) => index === 0)!.logit).toBe(logits[4]![0]);
    conditioned.remove();
  });

  it("can be inspected without being opened", async () => {
    await using reranker = await Reranker.open(model.directory);
    const { backend, ...facts } = reranker.info;
    expect(await inspectModel(model.directory)).toEqual(facts);
    expect(backend).toBeDefined();
  });
});

describe("auto", () => {
  it("is bf16 where the processor multiplies it, else f32, with a reason", () => {
    expect(chooseDtype({ isas: [], features: [] })).toMatchObject({ dtype: "f32", reason: expect.any(String) });
    expect(chooseDtype(machine()).reason).not.toBe("");
  });
});

describe("a model is refused", () => {
  let copy: string;
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), "matryoshka-broken-"));
  });
  afterAll(() => rmSync(copy, { recursive: true }));
  /** A fresh copy with one file changed; undefined removes it. */
  const broken = (file: string, change: (content: Buffer) => Buffer | string | undefined) => {
    rmSync(copy, { recursive: true });
    cpSync(model.directory, copy, { recursive: true });
    const content = change(readFileSync(join(copy, file)));
    if (content === undefined) rmSync(join(copy, file));
    else writeFileSync(join(copy, file), content);
    return copy;
  };
  const config = (change: object) =>
    broken("config.json", (content) => JSON.stringify({ ...JSON.parse(content.toString()), ...change }));

  it("where its directory is missing, or not a model", async () => {
    await refused("/nowhere/at/all", "ERR_MODEL_NOT_FOUND");
    await refused(tmpdir(), "ERR_MODEL_INVALID");
    await refused("", "ERR_INVALID_ARGUMENT");
    await refused(3 as unknown as string, "ERR_INVALID_ARGUMENT");
    await expect(inspectModel("/nowhere/at/all")).rejects.toMatchObject({ code: "ERR_MODEL_NOT_FOUND" });
  });

  it("where the architecture is one the engine does not run", async () => {
    await refused(config({ model_type: "t5" }), "ERR_UNSUPPORTED_ARCHITECTURE");
  });

  it("where config and tensors disagree", async () => {
    await refused(config({ num_hidden_layers: 5 }), "ERR_CONFIG_INVALID").catch(() =>
      refused(copy, "ERR_TENSOR_MISSING"),
    );
    await refused(config({ intermediate_size: 65 }), "ERR_TENSOR_SHAPE");
  });

  it("where its weights are cut off, or claim a header of 2^60 bytes", async () => {
    await refused(
      broken("model.safetensors", (content) => content.subarray(0, content.length - 100)),
      "ERR_SAFETENSORS_INVALID",
    );
    const huge = broken("model.safetensors", (content) => {
      content.writeBigUInt64LE(1n << 60n);
      return content;
    });
    await refused(huge, "ERR_SAFETENSORS_INVALID");
  });

  it("where a weight is not a number", async () => {
    const nan = broken("model.safetensors", (content) => {
      content.writeFloatLE(Number.NaN, content.length - 4);
      return content;
    });
    await refused(nan, "ERR_TENSOR_NOT_FINITE");
  });

  it("where the tokenizer is missing, unreadable, or of another model", async () => {
    await refused(
      broken("tokenizer.json", () => undefined),
      "ERR_MODEL_INVALID",
    );
    await refused(
      broken("tokenizer.json", () => "{"),
      "ERR_MODEL_INVALID",
    );
    await refused(
      broken("tokenizer.json", (content) => {
        const json = JSON.parse(content.toString());
        json.added_tokens.push({ id: 100_000, content: "[X]", special: true });
        return JSON.stringify(json);
      }),
      "ERR_MODEL_INVALID",
    );
  });

  it("where an option is wrong, before any file is read", async () => {
    await refused("/nowhere", "ERR_UNKNOWN_OPTION", { devise: "cpu" } as OpenOptions);
    await refused("/nowhere", "ERR_INVALID_ARGUMENT", { threads: 0 });
    await refused("/nowhere", "ERR_UNSUPPORTED_DTYPE", { device: "reference", dtype: "bf16" });
  });
});
