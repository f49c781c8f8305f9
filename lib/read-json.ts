/**
 * Reads a checkpoint's JSON files.
 */
import { readFile } from "node:fs/promises";
import { MatryoshkaError } from "./errors.js";

/** A JSON object. A file that is not there is `fallback`, or `ERR_MODEL_INVALID` without one. */
export async function readJson(path: string, fallback?: object): Promise<object> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" && fallback) return fallback;
    throw new MatryoshkaError(
      code === "ENOENT" ? "ERR_MODEL_INVALID" : "ERR_FILE",
      `Expected a readable ${path} but received ${code}. A model directory holds all files of its checkpoint.`,
      { cause },
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MatryoshkaError("ERR_MODEL_INVALID", `Expected JSON in ${path}: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw new MatryoshkaError("ERR_MODEL_INVALID", `Expected a JSON object in ${path} but received ${typeof value}.`);
}
