/**
 * Training configurations: the published schema and the reader know the same keys.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../lib/train/config.js";

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
const read = (config: unknown) => {
  const path = join(scratch, "train.json");
  writeFileSync(path, JSON.stringify(config));
  return readConfig(path);
};

describe("the published schema", () => {
  it("allows what the reader takes, key by key", async () => {
    const given = example(schema) as Record<string, unknown>;
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
