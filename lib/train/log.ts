/**
 * log.jsonl: what every step, mining round and validation of a run said, one JSON object a line.
 *
 * A checkpoint knows how long the log was, and resuming cuts it back to that, so that each step stands there once.
 */
import { closeSync, createReadStream, fstatSync, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { cannotWrite, MatryoshkaError } from "../errors.js";
import { splitLines } from "../eval/lines.js";
import type { NativeStepResult } from "../native-trainer.js";

/** Steps count from 1 here: `step` have been done. */
export interface StepRecord extends Pick<NativeStepResult, "loss" | "perExit" | "gradNorm" | "applied" | "tokens"> {
  readonly kind: "step";
  readonly step: number;
  readonly pairs: number;
  /** Share of the peak learning rates. */
  readonly rate: number;
  readonly milliseconds: number;
}

export interface MiningRecord {
  readonly kind: "mining";
  readonly step: number;
  readonly round: number;
  readonly queries: number;
  readonly pairs: number;
  readonly milliseconds: number;
}

export interface ValidationRecord {
  readonly kind: "validation";
  readonly step: number;
  readonly exitLayers: readonly number[];
  readonly sets: readonly {
    readonly name: string;
    readonly queries: number;
    readonly pairs: number;
    /** nDCG@10 at each of `exitLayers`. */
    readonly ndcg: readonly number[];
  }[];
  readonly milliseconds: number;
}

export type LogRecord = StepRecord | MiningRecord | ValidationRecord;

export class Log {
  readonly path: string;
  readonly #file: number;
  #bytes: number;

  /** Opens the log and cuts it to `bytes`. Throws `ERR_FILE`, also where it is shorter than that. */
  constructor(path: string, bytes: number) {
    this.path = path;
    this.#bytes = bytes;
    try {
      this.#file = openSync(path, "a");
    } catch (cause) {
      throw cannotWrite(path, cause);
    }
    const { size } = fstatSync(this.#file);
    if (size < bytes) {
      closeSync(this.#file);
      throw new MatryoshkaError(
        "ERR_FILE",
        `Expected at least ${bytes} bytes in ${path}, as its newest checkpoint says, but it has ${size}. Put the log ` +
          "back, or start in another directory.",
      );
    }
    ftruncateSync(this.#file, bytes);
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Throws `ERR_FILE`. */
  add(record: LogRecord): void {
    const line = Buffer.from(`${JSON.stringify(record, shorter)}\n`);
    try {
      for (let done = 0; done < line.length; ) done += writeSync(this.#file, line, done);
    } catch (cause) {
      throw cannotWrite(this.path, cause);
    }
    this.#bytes += line.length;
  }

  sync(): void {
    try {
      fsyncSync(this.#file);
    } catch (cause) {
      throw cannotWrite(this.path, cause);
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** Seven digits say all about a loss. Infinite ones, of a step that was not applied, become null. */
function shorter(_key: string, value: unknown): unknown {
  return typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(7)) : value;
}

/** The records in a log's first `bytes`: what comes after them may still be being written. Throws `ERR_FILE`. */
export async function readLog(path: string, bytes = Number.POSITIVE_INFINITY): Promise<LogRecord[]> {
  if (bytes === 0) return [];
  const records: LogRecord[] = [];
  const stream = createReadStream(path, { end: bytes - 1 });
  for await (const { text } of splitLines(stream, path)) records.push(JSON.parse(text) as LogRecord);
  return records;
}
