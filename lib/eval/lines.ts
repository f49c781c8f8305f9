/**
 * Reads text line by line, in constant memory, with the `file:line` that error messages need.
 */
import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import { MatryoshkaError } from "../errors.js";

/** One line without its line ending, and where it stands. */
export interface Line {
  readonly text: string;
  /** 1-based. */
  readonly number: number;
  /** `file:line`. */
  readonly where: string;
}

/** The lines of a UTF-8 file. Throws `ERR_FILE`. */
export function readLines(path: string): AsyncGenerator<Line> {
  return splitLines(createReadStream(path, { highWaterMark: 1 << 18 }), path);
}

/**
 * The lines of a UTF-8 stream; `name` is what messages call it. A byte-order mark and carriage returns are dropped.
 * Throws `ERR_FILE`.
 */
export async function* splitLines(stream: Readable, name: string): AsyncGenerator<Line> {
  let rest = "";
  let number = 0;
  const line = (text: string): Line => {
    number++;
    const start = number === 1 && text.charCodeAt(0) === 0xfeff ? 1 : 0;
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    return { text: text.slice(start, end), number, where: `${name}:${number}` };
  };
  try {
    for await (const chunk of stream.setEncoding("utf8")) {
      const parts = (chunk as string).split("\n");
      parts[0] = rest + parts[0];
      rest = parts.pop()!;
      for (const part of parts) yield line(part);
    }
  } catch (cause) {
    // Of the file system, or of zlib where the stream unpacks.
    if (cause instanceof Error && "code" in cause && !(cause instanceof MatryoshkaError)) {
      throw new MatryoshkaError("ERR_FILE", `Expected a readable file at ${name}: ${cause.message}`, { cause });
    }
    if (cause instanceof RangeError) throw malformed(`${name}:${number + 1}`, "lines", rest);
    throw cause;
  }
  if (rest !== "") yield line(rest);
}

/** What becomes of a malformed line: throws, unless whoever reads counts it and goes on. */
export type OnBadLine = (error: unknown) => void;

export const refuse: OnBadLine = (error) => {
  throw error;
};

/** A malformed line: says where, what was expected and what came. */
export function malformed(where: string, expected: string, came: string): MatryoshkaError {
  const shown = came.length > 120 ? `${came.slice(0, 120)}…` : came;
  return new MatryoshkaError("ERR_INVALID_ARGUMENT", `${where}: expected ${expected}, got ${JSON.stringify(shown)}`);
}
