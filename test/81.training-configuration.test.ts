/**
 * Training configurations: the published schema and the reader know the same keys.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../lib/train/config.js";
import { readSource } from "../lib/train/sources.js";

interface Schema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly minimum?: number;
}

/** A value that the schema allows, with every key that it knows. */
function example({ type, enum: choices, properties, items, minimum = 0 }: Schema): unknown {
  if (choices) return choices[0];
  if (properties) return Object.fromEntries(Object.entries(properties).map(([key, each]) => [key, example(each)]));
  if (type === "array") return [example(items!)];
  return { string: "text", boolean: true, integer: minimum, number: 0.5 }[type!];
}

const schema = JSON.parse(readFileSync(new URL("../lib/train/train.schema.json", import.meta.url), "utf8")) as Schema;
let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "matryoshka-configuration-"));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const read = (config: unknown, init?: string) => {
  const path = join(scratch, "train.json");
  writeFileSync(path, JSON.stringify(config));
  return readConfig(path, init);
};

describe("the published schema", () => {
  it("allows what the reader takes, key by key", async () => {
    const given: Record<string, unknown> = { ...(example(schema) as object), carry: [0] };
    const { $schema: _, ...keys } = given;
    expect(Object.keys(await read(given)).sort()).toEqual(Object.keys(keys).sort());
  });

  it("has every key that the reader fills in", async () => {
    const config = await read({ init: "x", steps: 1, exitLayers: [1], sources: [{ path: "x" }] });
    const known = ({ properties = {} }: Schema, value: object, at: string) => {
      for (const [key, each] of Object.entries(value)) {
        expect(properties, at).toHaveProperty(key);
        if (typeof each === "object" && !Array.isArray(each)) known(properties[key]!, each, `${at}.${key}`);
      }
    };
    known(schema, config, "configuration");
  });
});

describe("a checkpoint's own settings", () => {
  const init = () => mkdtempSync(join(scratch, "init-"));
  const given = { steps: 1, sources: [{ path: "x" }] };

  it("are the defaults of exit layers and token types", async () => {
    const directory = init();
    writeFileSync(join(directory, "matryoshka.json"), JSON.stringify({ exitLayers: [2, 4], tokenTypes: "match" }));
    const own = await read({ ...given, init: directory });
    expect(own).toMatchObject({ exitLayers: [2, 4], tokenTypes: "match", loss: { exitWeights: [1, 1] } });
    const changed = await read({ ...given, init: directory, exitLayers: [4], tokenTypes: "segment" });
    expect(changed).toMatchObject({ exitLayers: [4], tokenTypes: "segment" });
  });

  it("are the default of what logits carry, but for other exit layers", async () => {
    const directory = init();
    writeFileSync(join(directory, "matryoshka.json"), JSON.stringify({ exitLayers: [2, 4], carry: [0, 0.3] }));
    expect((await read({ ...given, init: directory })).carry).toEqual([0, 0.3]);
    expect((await read({ ...given, init: directory, carry: [0, 0] })).carry).toEqual([0, 0]);
    expect(await read({ ...given, init: directory, exitLayers: [4] })).not.toHaveProperty("carry");
    const wrong = { code: "ERR_CONFIG_INVALID", message: expect.stringContaining("carry") };
    for (const carry of [[0], [0.3, 0.3], [0, 1], [0, 0, 0]])
      await expect(read({ ...given, init: directory, carry })).rejects.toMatchObject(wrong);
  });

  it("are those of the encoder given in its place", async () => {
    const directory = init();
    writeFileSync(join(directory, "matryoshka.json"), JSON.stringify({ exitLayers: [3], tokenTypes: "match" }));
    const config = await read({ ...given, init: "nowhere" }, directory);
    expect(config).toMatchObject({ init: directory, exitLayers: [3], tokenTypes: "match" });
  });

  it("are every layer and plain segments where it is a bare encoder", async () => {
    const directory = init();
    writeFileSync(join(directory, "config.json"), JSON.stringify({ num_hidden_layers: 3 }));
    expect(await read({ ...given, init: directory })).toMatchObject({ exitLayers: [1, 2, 3], tokenTypes: "segment" });
  });

  it("are an error with the file's name where nobody knows them", async () => {
    const directory = init();
    const file = join(directory, "matryoshka.json");
    writeFileSync(file, JSON.stringify({ exitLayers: [1], tokenTypes: "matches" }));
    const error = { code: "ERR_CONFIG_INVALID", message: expect.stringContaining(file) };
    await expect(read({ ...given, init: directory })).rejects.toMatchObject(error);
  });
});

describe("a key that would do nothing", () => {
  const given = { init: "x", steps: 1, exitLayers: [1] };
  it.each([
    ["sources[0].run", { sources: [{ path: "x.jsonl", run: "bm25.trec" }] }],
    ["sources[0].teachers", { sources: [{ path: "x.jsonl.gz", teachers: ["t.trec"] }] }],
    ["negatives.falseNegativeMargin", { sources: [{ path: "x" }], negatives: { falseNegativeMargin: 1 } }],
  ])("is an error: %s", async (key, changes) => {
    await expect(read({ ...given, ...changes })).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: expect.stringContaining(key),
    });
  });
});

it("a damaged .gz is an error with the file's name", async () => {
  const path = join(scratch, "clicks.jsonl.gz");
  const lines = Array.from({ length: 99 }, (_, i) => `{"query": "q${i}", "pos": ["a"], "neg": ["b"]}\n`).join("");
  writeFileSync(path, gzipSync(lines).subarray(0, -40));
  const config = await read({ init: "x", steps: 1, exitLayers: [1], sources: [{ path }] });
  const error = { code: "ERR_FILE", message: expect.stringContaining(path) };
  await expect(readSource(config.sources[0]!, config, { skipBad: true })).rejects.toMatchObject(error);
});
