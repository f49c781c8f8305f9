/**
 * Trajectories on disk: one JSON line a query behind a header that says what made them. A finished query is on disk
 * before the next begins, so a killed run loses at most the query it was at, and the next run goes on from there.
 */
import { appendFileSync, closeSync, ftruncateSync, openSync, readSync } from "node:fs";
import { cannotWrite, MatryoshkaError } from "../errors.js";
import { malformed } from "../eval/lines.js";
import { checkTrajectory, type Trajectory, type TrajectorySet } from "./trajectory.js";

const FORMAT = "matryoshka-trajectories";
const VERSION = 1;

/** Everything that changes scores: a store made under other conditions is refused. */
export type Conditions = Readonly<Record<string, string | number>>;

/** An open store. Not for two writers at once. */
export class TrajectoryStore {
  readonly path: string;
  readonly layers: readonly number[];
  private readonly descriptor: number;
  private readonly stored = new Map<string, Trajectory>();

  private constructor(path: string, layers: readonly number[], descriptor: number) {
    this.path = path;
    this.layers = layers;
    this.descriptor = descriptor;
  }

  /**
   * Opens or creates the store at `path`. A half-written last line (a killed run) is cut off. Throws `ERR_FILE` if the
   * file cannot be used, `ERR_INVALID_ARGUMENT` if it was made under other conditions or is damaged.
   */
  static open(path: string, layers: readonly number[], conditions: Conditions): TrajectoryStore {
    let descriptor: number;
    try {
      descriptor = openSync(path, "a+");
    } catch (cause) {
      throw cannotWrite(path, cause);
    }
    try {
      const store = new TrajectoryStore(path, [...layers], descriptor);
      const header = { format: FORMAT, version: VERSION, layers: [...layers], conditions };
      const { lines, complete, rest } = readWhole(path);
      // Nothing is cut off before the file is known to be one of ours.
      if (lines.length > 0) checkHeader(path, lines[0]!, header);
      else if (!JSON.stringify(header).startsWith(rest)) throw notOurs(path, rest);
      if (rest !== "") ftruncateSync(descriptor, complete);
      if (lines.length === 0) store.append(JSON.stringify(header));
      lines.slice(1).forEach((line, i) => {
        const list = decode(line, `${path}:${i + 2}`, layers.length);
        store.stored.set(list.query, list);
      });
      return store;
    } catch (error) {
      closeSync(descriptor);
      throw error;
    }
  }

  /** Whether this query is finished. */
  has(query: string): boolean {
    return this.stored.has(query);
  }

  get(query: string): Trajectory | undefined {
    return this.stored.get(query);
  }

  get size(): number {
    return this.stored.size;
  }

  /** Writes a finished query. It is on disk (handed to the operating system) when this returns. */
  add(list: Trajectory): void {
    checkTrajectory(list, this.layers.length);
    this.append(encode(list));
    this.stored.set(list.query, list);
  }

  /** All finished queries in the order they were written, or those of `queries` that are there, in that order. */
  set(queries?: Iterable<string>): TrajectorySet {
    const lists = queries ? [...queries].flatMap((query) => this.stored.get(query) ?? []) : [...this.stored.values()];
    return { layers: this.layers, lists };
  }

  close(): void {
    closeSync(this.descriptor);
  }

  private append(line: string): void {
    try {
      appendFileSync(this.descriptor, `${line}\n`);
    } catch (cause) {
      throw cannotWrite(this.path, cause);
    }
  }
}

/** Complete lines, the bytes they take, and what follows the last of them. */
function readWhole(path: string): { lines: string[]; complete: number; rest: string } {
  const descriptor = openSync(path, "r");
  try {
    // In parts: a file may be larger than the largest buffer.
    const part = Buffer.alloc(1 << 22);
    const lines: string[] = [];
    let complete = 0;
    let rest = Buffer.alloc(0);
    for (let read = readSync(descriptor, part); read > 0; read = readSync(descriptor, part)) {
      rest = Buffer.concat([rest, part.subarray(0, read)]);
      let start = 0;
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10, start)) {
        lines.push(rest.toString("utf8", start, end));
        start = end + 1;
      }
      complete += start;
      rest = rest.subarray(start);
    }
    return { lines, complete, rest: rest.toString("utf8") };
  } finally {
    closeSync(descriptor);
  }
}

function notOurs(path: string, line: string): MatryoshkaError {
  return malformed(`${path}:1`, `the header of a ${FORMAT} file, version ${VERSION}`, line);
}

function checkHeader(path: string, line: string, expected: { layers: number[]; conditions: Conditions }): void {
  let header: { format?: unknown; version?: unknown; layers?: unknown; conditions?: Conditions };
  try {
    header = JSON.parse(line) as typeof header;
  } catch {
    header = {};
  }
  if (header.format !== FORMAT || header.version !== VERSION) {
    throw notOurs(path, line);
  }
  const mine: Conditions = { ...expected.conditions, layers: expected.layers.join(",") };
  const theirs: Conditions = { ...header.conditions, layers: String(header.layers) };
  for (const key of new Set([...Object.keys(mine), ...Object.keys(theirs)])) {
    if (mine[key] === theirs[key]) continue;
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${path}: expected trajectories made with ${key} = ${mine[key]}, got ${theirs[key]}. Scores would not be comparable: choose another file or delete this one.`,
    );
  }
}

function encode(list: Trajectory): string {
  return JSON.stringify({
    query: list.query,
    text: list.text,
    documents: list.documents,
    tokens: [...list.tokens],
    firstStage: list.firstStage && [...list.firstStage],
    scores: encodeFloats(list.scores),
    estimates: list.estimates && encodeFloats(list.estimates),
    units: list.units && encodeFloats(list.units),
  });
}

/** Little-endian float32 in base64. */
function encodeFloats(values: Float32Array): string {
  const bytes = Buffer.alloc(values.length * 4);
  for (let i = 0; i < values.length; i++) bytes.writeFloatLE(values[i]!, i * 4);
  return bytes.toString("base64");
}

function decodeFloats(text: unknown): Float32Array {
  const bytes = Buffer.from(text as string, "base64");
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(i * 4));
}

function decode(line: string, where: string, exits: number): Trajectory {
  try {
    const record = JSON.parse(line) as Record<string, unknown> & { documents: string[]; tokens: number[] };
    const list: Trajectory = {
      query: record.query as string,
      text: record.text as string | undefined,
      documents: record.documents,
      tokens: Int32Array.from(record.tokens),
      firstStage: record.firstStage && Float32Array.from(record.firstStage as number[]),
      scores: decodeFloats(record.scores),
      estimates: record.estimates && decodeFloats(record.estimates),
      units: record.units && decodeFloats(record.units),
    } as Trajectory;
    checkTrajectory(list, exits);
    return list;
  } catch (cause) {
    if (cause instanceof MatryoshkaError) throw cause;
    throw malformed(where, "one query's trajectory as a JSON object", line);
  }
}
