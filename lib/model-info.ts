/**
 * Facts about a checkpoint, from its files alone or from an opened engine.
 */
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type Certificate, parseCertificates } from "./certify/certificate.js";
import { invalid, show } from "./check.js";
import { MatryoshkaError } from "./errors.js";
import { MATCH_TYPES } from "./match-types.js";
import { fromNative, native } from "./native.js";
import type { NativeEngineInfo, NativeModelInfo } from "./native-engine.js";
import { readJson } from "./read-json.js";
import type { ModelInfo } from "./types.js";

/** The model that ships with the package. */
export const DEFAULT_MODEL = fileURLToPath(new URL("../models/default", import.meta.url));

/** An absolute path; the bundled model where none is given. */
export function modelDirectory(directory: unknown = DEFAULT_MODEL): string {
  if (typeof directory !== "string" || directory === "") throw invalid("a path", "directory", directory);
  return resolve(directory);
}

/** Completes what the addon read by what only TypeScript cares about. */
export async function modelInfo(directory: string, info: NativeModelInfo | NativeEngineInfo): Promise<ModelInfo> {
  const { family, layers, hidden, heads, intermediate, vocab, maxTokens, head, parameters, fileBytes } = info;
  return {
    ...{ directory, family, layers, hidden, heads, intermediate, vocab, maxTokens, head, parameters, fileBytes },
    exitLayers: [...info.exitLayers],
    carry: [...info.carry],
    compensated: info.compensated,
    storedTypes: { ...info.storedTypes },
    provenance: (await readMatryoshka(directory)).provenance,
    ...("backend" in info ? { backend: info.backend } : {}),
  };
}

/** What TypeScript reads of matryoshka.json; a plain sequence classifier has none. */
async function readMatryoshka(
  directory: string,
): Promise<{ provenance?: unknown; certificates?: unknown; tokenTypes?: unknown }> {
  return readJson(join(directory, "matryoshka.json"), {});
}

/**
 * Whether token types mark matches between query and document. Throws `ERR_CONFIG_INVALID` for an unknown kind, and
 * where the model has too few types for the marks.
 */
export async function marksMatches(directory: string, types: number): Promise<boolean> {
  const { tokenTypes = "segment" } = await readMatryoshka(directory);
  if (tokenTypes === "segment") return false;
  if (tokenTypes === "match" && types >= MATCH_TYPES) return true;
  throw new MatryoshkaError(
    "ERR_CONFIG_INVALID",
    `${join(directory, "matryoshka.json")}: expected "segment", or "match" for a model of at least ${MATCH_TYPES} token ` +
      `types, under tokenTypes, but it is ${show(tokenTypes)} and the model has ${types}.`,
  );
}

/** Certificates of matryoshka.json. Throws `ERR_CONFIG_INVALID` for one that is malformed. */
export async function readCertificates(directory: string): Promise<Certificate[]> {
  return parseCertificates((await readMatryoshka(directory)).certificates, join(directory, "matryoshka.json"));
}

/**
 * Reads and validates a checkpoint's files without loading it: architecture, exits, sizes, provenance. Defaults to the
 * bundled model. Throws the same errors as `Reranker.open`.
 */
export async function inspectModel(directory?: string): Promise<ModelInfo> {
  const path = modelDirectory(directory);
  let info: NativeModelInfo;
  try {
    info = native().inspect(path);
  } catch (error) {
    throw fromNative(error);
  }
  return modelInfo(path, info);
}
