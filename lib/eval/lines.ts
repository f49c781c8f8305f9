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

/** What becomes of a malformed line: throws, unless whoever reads counts it and goes on. */
export type OnBadLine = (error: unknown) => void;

export const refuse: OnBadLine = (error) => {
  throw error;
};

/** The lines of a UTF-8 file: see `splitLines`. */
export function readLines(path: string, onBad = refuse): AsyncGenerator<Line> {
  return splitLines(createReadStream(path, { highWaterMark: 1 << 18 }), path, onBad);
}

/**
 * The lines of a stream of UTF-8 bytes; `name` is what messages call it. A byte-order mark and carriage returns are dropped.
 * Throws `ERR_FILE`, and `ERR_INVALID_ARGUMENT` for a line that is not UTF-8, unless `onBad` takes it, or is longer than a
 * string can be.
 */
export async function* splitLines(stream: Readable, name: string, onBad = refuse): AsyncGenerator<Line> {
  const lines = new LineDecoder(name, onBad);
  let rest: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      // The byte of a line feed is part of no other character.
      const end = chunk.lastIndexOf(10);
      size = end < 0 ? size + chunk.length : chunk.length - end - 1;
      if (size > LONGEST) throw malformed(`${name}:${lines.number + 1}`, "shorter lines", `${size} bytes and more`);
      if (end >= 0) {
        yield* lines.of(Buffer.concat([...rest, chunk.subarray(0, end)]));
        rest = [];
      }
      rest.push(chunk.subarray(end + 1));
    }
  } catch (cause) {
    // Of the file system, or of zlib where the stream unpacks.
    if (cause instanceof Error && "code" in cause && !(cause instanceof MatryoshkaError)) {
      throw new MatryoshkaError("ERR_FILE", `Expected a readable file at ${name}: ${cause.message}`, { cause });
    }
    throw cause;
  }
  if (size > 0) yield* lines.of(Buffer.concat(rest));
}

/** Bytes of a line: well below what a string can hold, with the line before it. */
const LONGEST = 1 << 28;

/** Bytes to lines of text. */
class LineDecoder {
  /** Of the last line, 1-based. */
  number = 0;
  readonly #name: string;
  readonly #onBad: OnBadLine;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(name: string, onBad: OnBadLine) {
    this.#name = name;
    this.#onBad = onBad;
  }

  /** Of bytes that end where a line does, without that line's feed. */
  *of(bytes: Buffer): Generator<Line> {
    const text = this.#decode(bytes);
    if (text !== undefined) {
      for (const each of text.split("\n")) yield this.#line(each);
      return;
    }
    for (let start = 0; start <= bytes.length; ) {
      const feed = bytes.indexOf(10, start);
      const end = feed < 0 ? bytes.length : feed;
      const own = bytes.subarray(start, end);
      const line = this.#decode(own);
      if (line !== undefined) yield this.#line(line);
      else this.#onBad(malformed(`${this.#name}:${++this.number}`, "UTF-8 text", own.toString()));
      start = end + 1;
    }
  }

  #decode(bytes: Buffer): string | undefined {
    try {
      return this.#decoder.decode(bytes);
    } catch {
      return undefined;
    }
  }

  #line(text: string): Line {
    const number = ++this.number;
    const start = number === 1 && text.charCodeAt(0) === 0xfeff ? 1 : 0;
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    return { text: text.slice(start, end), number, where: `${this.#name}:${number}` };
  }
}

/** A malformed line: says where, what was expected and what came. */
export function malformed(where: string, expected: string, came: string): MatryoshkaError {
  const shown = came.length > 120 ? `${came.slice(0, 120)}…` : came;
  return new MatryoshkaError("ERR_INVALID_ARGUMENT", `${where}: expected ${expected}, got ${JSON.stringify(shown)}`);
}
