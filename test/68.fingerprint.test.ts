/**
 * A fingerprint changes with every file and setting that decides a score, and with nothing else.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { hashes } from "../lib/fingerprint.js";
import { makeModel } from "./fixtures/make-model.js";

const model = makeModel({ layers: 2 });
afterAll(() => model.remove());

/** The fingerprint after `change`, which is then undone. */
async function after(file: string, change: (text: string) => string) {
  const path = join(model.directory, file);
  let before: Buffer | undefined;
  try {
    before = readFileSync(path);
  } catch {}
  writeFileSync(path, change(before?.toString() ?? ""));
  const found = await hashes(model.directory);
  if (before) writeFileSync(path, before);
  else rmSync(path);
  return found;
}
const setting = (changes: object) => (json: string) => JSON.stringify({ ...JSON.parse(json), ...changes });

it.each([
  ["modelHash", "config.json", setting({ layer_norm_eps: 1e-6 })],
  ["modelHash", "matryoshka.json", setting({ tokenTypes: "match" })],
  ["modelHash", "matryoshka.json", setting({ exitLayers: [2] })],
  ["modelHash", "matryoshka.json", setting({ carry: [0, 0.3] })],
  ["tokenizerHash", "tokenizer.json", (text: string) => `${text} `],
  ["tokenizerHash", "tokenizer_config.json", () => `{"do_lower_case": true, "remove_space": true}`],
] as const)("%s changes with %s", async (which, file, change) => {
  const { [which]: before, ...others } = await hashes(model.directory);
  const { [which]: now, ...same } = await after(file, change);
  expect(now).not.toBe(before);
  expect(same).toEqual(others);
});

it("stays as it is with certificates, provenance and files that decide nothing", async () => {
  const before = await hashes(model.directory);
  expect(await after("matryoshka.json", setting({ certificates: [], provenance: { steps: 1 } }))).toEqual(before);
  expect(await after("README.md", () => "hello")).toEqual(before);
});
