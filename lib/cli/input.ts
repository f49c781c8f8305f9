/**
 * Lines from a file or from stdin, as they come.
 */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createInterface } from "node:readline";
import { MatryoshkaError } from "../errors.js";
import { UsageError } from "./command.js";

export interface Line {
  readonly text: string;
  /** 1-based. */
  readonly number: number;
  /** File and line, for messages. */
  readonly where: string;
}

/**
 * Lines of `file`, or of stdin for "-". Blank lines are left out but counted. Throws `ERR_FILE`, and the signal's reason
 * where it fires, also while a pipe makes it wait.
 */
export async function* lines(file: string, signal?: AbortSignal): AsyncGenerator<Line, void, undefined> {
  const name = file === "-" ? "stdin" : file;
  if (file === "-" && process.stdin.isTTY) throw new UsageError("nothing to read: name a file or pipe lines in");
  if (file !== "-") await assertFile(file);
  const input = file === "-" ? process.stdin : createReadStream(file);
  let number = 0;
  const reader = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY, ...(signal && { signal }) });
  for await (const text of reader) {
    number++;
    if (text.trim() !== "") yield { text, number, where: `${name}:${number}` };
  }
  signal?.throwIfAborted();
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

async function assertFile(file: string): Promise<void> {
  try {
    if (!(await stat(file)).isDirectory()) return;
  } catch (cause) {
    throw new MatryoshkaError(
      "ERR_FILE",
      `Expected a readable file but ${file} cannot be opened (${(cause as NodeJS.ErrnoException).code})`,
      { cause },
    );
  }
  throw new MatryoshkaError("ERR_FILE", `Expected a file but ${file} is a directory`);
}
