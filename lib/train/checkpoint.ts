/**
 * Checkpoints of a run: directories that appear whole or not at all, the last two of which are kept.
 *
 * OUT/checkpoints/checkpoint-000007/state             weights, moments, counters, as the native trainer writes them
 * OUT/checkpoints/checkpoint-000007/checkpoint.json   everything else a run needs to go on
 */
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { writeDirectory, writeSynced } from "../write-whole.js";
import type { ListSource, TrainConfig } from "./types.js";

/** What the model said of one round's candidates. */
export interface MinedRound {
  readonly keys: readonly string[];
  /** By key: one score for each of its documents. */
  readonly scores: readonly Float32Array[];
}

export interface Checkpoint {
  readonly config: TrainConfig;
  readonly lists: ListSource["summary"];
  /** Steps done. */
  readonly step: number;
  /** Steps before the last validation. */
  readonly validated: number;
  readonly mined: readonly MinedRound[];
  /** Length of log.jsonl. */
  readonly logBytes: number;
}

/** A checkpoint on disk. */
export interface StoredCheckpoint extends Checkpoint {
  readonly directory: string;
  /** The native trainer's file. */
  readonly state: string;
}

const KEPT = 2;
const NAME = /^checkpoint-(\d{6,})$/;

/** Writes the next checkpoint, then removes all but the last two. Throws `ERR_FILE` with the earlier ones untouched. */
export async function saveCheckpoint(
  parent: string,
  checkpoint: Checkpoint,
  writeState: (path: string) => Promise<void>,
): Promise<string> {
  const numbers = await stored(parent);
  const name = nameOf((numbers.at(-1) ?? 0) + 1);
  await writeDirectory(join(parent, name), async (directory) => {
    await writeState(join(directory, "state"));
    await writeSynced(join(directory, "checkpoint.json"), JSON.stringify(checkpoint, encode));
  });
  for (const old of numbers.slice(0, 1 - KEPT)) await rm(join(parent, nameOf(old)), { recursive: true, force: true });
  return join(parent, name);
}

/** The newest checkpoint, or undefined. Throws `ERR_FILE` where it cannot be read. */
export async function latestCheckpoint(parent: string): Promise<StoredCheckpoint | undefined> {
  const number = (await stored(parent)).at(-1);
  if (number === undefined) return undefined;
  const directory = join(parent, nameOf(number));
  try {
    const json = await readFile(join(directory, "checkpoint.json"), "utf8");
    const checkpoint = JSON.parse(json, decode) as Checkpoint;
    return { ...checkpoint, directory, state: join(directory, "state") };
  } catch (cause) {
    throw new MatryoshkaError(
      "ERR_FILE",
      `Expected a readable checkpoint at ${directory}: ${(cause as Error).message}. Delete that directory to go on from ` +
        "the one before.",
      { cause },
    );
  }
}

/**
 * Throws `ERR_CONFIG_INVALID` naming what differs where a run would not go on as it began. Only `validation` and
 * `checkpoint` may change between sittings: they say when to look, not what to learn.
 */
export function assertSameRun(
  { config, lists, directory }: StoredCheckpoint,
  now: Pick<Checkpoint, "config" | "lists">,
): void {
  const learnt = ({ validation: _, checkpoint: __, ...rest }: TrainConfig) => rest;
  const differing = differences(plain(learnt(config)), plain(learnt(now.config)), "");
  const changed = differing.length > 0 ? differing : differences(plain(lists), plain(now.lists), "lists");
  if (changed.length === 0) return;
  throw new MatryoshkaError(
    "ERR_CONFIG_INVALID",
    `Expected the run that ${directory} belongs to, but ${changed.slice(0, 4).join("; ")}. Give back what it was begun ` +
      "with, or choose another output directory.",
  );
}

/** As JSON would give it back, so that an absent key equals an undefined one. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

/** `path: was …, is …` for every leaf that differs. */
function differences(was: unknown, is: unknown, path: string): string[] {
  const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
  if (isObject(was) && isObject(is)) {
    const keys = new Set([...Object.keys(was), ...Object.keys(is)]);
    return [...keys].flatMap((key) => differences(was[key], is[key], path === "" ? key : `${path}.${key}`));
  }
  const shown = (value: unknown) => JSON.stringify(value) ?? "absent";
  return Object.is(was, is) ? [] : [`${path} was ${shown(was)} and is ${shown(is)}`];
}

/** Numbers of the checkpoints there are, ascending. */
async function stored(parent: string): Promise<number[]> {
  let names: string[];
  try {
    names = await readdir(parent);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new MatryoshkaError("ERR_FILE", `Expected to be able to read ${parent}: ${(cause as Error).message}`, {
      cause,
    });
  }
  return names
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

const nameOf = (number: number) => `checkpoint-${String(number).padStart(6, "0")}`;

/** Scores as base64 of their little-endian bits: they come back exactly, in a third of the space. */
function encode(_key: string, value: unknown): unknown {
  if (!(value instanceof Float32Array)) return value;
  return { float32: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
}

function decode(_key: string, value: unknown): unknown {
  const bits = (value as { float32?: unknown } | null)?.float32;
  if (typeof bits !== "string") return value;
  return new Float32Array(new Uint8Array(Buffer.from(bits, "base64")).buffer);
}
