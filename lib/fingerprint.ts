/**
 * What a certificate is tied to: hashes of the model's and the tokenizer's files, with the conditions of the run.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { Fingerprint } from "./certify/certificate.js";
import { MatryoshkaError } from "./errors.js";
import { readJson } from "./read-json.js";

const TOKENIZER = ["tokenizer.json", "tokenizer_config.json"];

/** Hashes by path, size and time of change, so that a process reads each file once. */
const known = new Map<string, Promise<string>>();

/**
 * What decides a score: config, weights, exit heads, and of matryoshka.json, where certificates live, these; and `carry`, which
 * came later: a model that has none keeps the hash of its certificates.
 */
const SETTINGS = ["exitLayers", "head", "compensation", "tokenTypes"] as const;
const isModelFile = (name: string) => name === "config.json" || name.endsWith(".safetensors");

export type Hashes = Pick<Fingerprint, "modelHash" | "tokenizerHash">;

/** sha256 of a model's files in the order of their names, then its settings, and of its tokenizer's. Throws `ERR_FILE`. */
export async function hashes(directory: string): Promise<Hashes> {
  try {
    const names = (await readdir(directory)).sort();
    const file = (await readJson(join(directory, "matryoshka.json"), {})) as Record<string, unknown>;
    const settings = JSON.stringify([...SETTINGS.map((key) => file[key] ?? null), ...(file.carry ? [file.carry] : [])]);
    const [modelHash, tokenizerHash] = await Promise.all([
      hash(directory, names.filter(isModelFile), settings),
      hash(
        directory,
        names.filter((name) => TOKENIZER.includes(name)),
      ),
    ]);
    return { modelHash, tokenizerHash };
  } catch (cause) {
    throw new MatryoshkaError(
      "ERR_FILE",
      `Expected the model's files in ${directory}, for what a certificate is tied to: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** The same with the conditions of a run. */
export async function fingerprint(
  directory: string,
  conditions: Pick<Fingerprint, "dtype" | "maxLength">,
): Promise<Fingerprint> {
  return { ...(await hashes(directory)), ...conditions };
}

async function hash(directory: string, names: readonly string[], more = ""): Promise<string> {
  const paths = names.map((name) => join(directory, name));
  const stats = await Promise.all(paths.map((path) => stat(path)));
  const key = paths.map((path, i) => `${path}\0${stats[i]!.size}\0${stats[i]!.mtimeMs}`).join("\0") + more;
  const found = known.get(key);
  if (found) return found;
  const computed = (async () => {
    const sha = createHash("sha256");
    for (const path of paths) await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), sha, { end: false });
    return sha.update(more).digest("hex");
  })();
  known.set(key, computed);
  computed.catch(() => known.delete(key));
  return computed;
}
