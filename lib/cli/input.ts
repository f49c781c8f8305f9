/**
 * Lines from a file or from stdin, as they come, and the JSON objects on them.
 */
import { createReadStream } from "node:fs";
import { addAbortSignal } from "node:stream";
import { MatryoshkaError } from "../errors.js";
import { type Line, splitLines } from "../eval/lines.js";
import { UsageError } from "./command.js";

/**
 * Lines of `file`, or of stdin for "-". Blank lines are left out but counted. Throws `ERR_FILE`, and the signal's reason
 * where it fires, also while a pipe makes it wait.
 */
export async function* lines(file: string, signal?: AbortSignal): AsyncGenerator<Line, void, undefined> {
  if (file === "-" && process.stdin.isTTY) throw new UsageError("nothing to read: name a file or pipe lines in");
  const input = file === "-" ? process.stdin : createReadStream(file);
  if (signal) addAbortSignal(signal, input);
  try {
    for await (const line of splitLines(input, file === "-" ? "stdin" : file)) if (line.text.trim() !== "") yield line;
  } finally {
    signal?.throwIfAborted();
  }
}

/** The JSON object on a line. Throws `ERR_INVALID_ARGUMENT` naming file and line. */
export function parseObject({ text, where }: Line): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MatryoshkaError("ERR_INVALID_ARGUMENT", `${where}: expected a JSON object but the line does not parse`, {
      cause,
    });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${where}: expected a JSON object but received ${text.slice(0, 40)}`,
    );
  return value as Record<string, unknown>;
}

/** A string field of a line's object. Throws `ERR_INVALID_ARGUMENT` naming file and line. */
export function stringField(object: Record<string, unknown>, field: string, { where }: Line): string {
  const value = object[field];
  if (typeof value !== "string")
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${where}: expected a string under ${JSON.stringify(field)} but received ${typeof value}`,
    );
  return value;
}
