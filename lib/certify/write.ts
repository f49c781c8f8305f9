/**
 * Puts certificates into a model's matryoshka.json, whole or not at all.
 */
import { join } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { readJson } from "../read-json.js";
import { writeWhole } from "../write-whole.js";
import { type Certificate, parseCertificates } from "./certificate.js";

/**
 * Throws `ERR_MODEL_INVALID` for a checkpoint without matryoshka.json: it has no exit heads, and that file would say it
 * has.
 */
export async function assertCanHold(directory: string): Promise<void> {
  await readLayerwise(directory);
}

async function readLayerwise(directory: string): Promise<object> {
  const file = await readJson(join(directory, "matryoshka.json"), {});
  if ("exitLayers" in file) return file;
  throw new MatryoshkaError(
    "ERR_MODEL_INVALID",
    `Expected a layer-wise checkpoint, with a matryoshka.json that can hold certificates, but ${directory} has none: it ` +
      "is a plain sequence classifier whose earlier layers were never trained to score. Train exit heads for it first.",
  );
}

/**
 * Adds certificates, each in the place of older ones of its kind for the same k, α, dtype and maximum length; everything else in
 * the file stays. Throws `ERR_FILE` if the directory cannot be written to, `ERR_CONFIG_INVALID` if a certificate in it
 * is malformed.
 */
export async function addCertificates(directory: string, added: readonly Certificate[]): Promise<void> {
  const path = join(directory, "matryoshka.json");
  const file = (await readLayerwise(directory)) as { certificates?: unknown };
  const replaced = (old: Certificate): boolean =>
    added.some((each) =>
      (["kind", "k", "alpha", "dtype", "maxLength"] as const).every((key) => each[key] === old[key]),
    );
  const kept = parseCertificates(file.certificates, path).filter((old) => !replaced(old));
  const certificates = [...kept, ...added];
  await writeWhole(path, `${JSON.stringify({ ...file, certificates }, undefined, 2)}\n`);
}
