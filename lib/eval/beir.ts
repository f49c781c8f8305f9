/**
 * Reads a data set in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { type Line, malformed, type OnBadLine, readLines, refuse } from "./lines.js";
import { type Qrels, readQrels } from "./qrels.js";

/** A passage of the corpus. `title` is "" where there is none. */
export interface Passage {
  readonly title: string;
  readonly text: string;
}

/** Title and text as one string: what a reranker reads. */
export function passageText({ title, text }: Passage): string {
  return title === "" ? text : text === "" ? title : `${title} ${text}`;
}

interface BeirRecord {
  readonly id: string;
  readonly record: Readonly<Record<string, unknown>>;
  readonly where: string;
}

/**
 * Hands on each line of JSON lines with a string (or numeric) `_id`. Malformed lines, and those that `take` throws for,
 * go to `onBad`, as errors naming `file:line`.
 */
async function records(path: string, take: (each: BeirRecord) => void, onBad: OnBadLine): Promise<void> {
  const read = ({ text, where }: Line): void => {
    if (text.trim() === "") return;
    let record: unknown;
    try {
      record = JSON.parse(text);
    } catch {
      throw malformed(where, "one JSON object a line", text);
    }
    if (typeof record !== "object" || record === null || Array.isArray(record)) {
      throw malformed(where, "a JSON object", text);
    }
    const raw = (record as Record<string, unknown>)._id;
    const id = typeof raw === "number" ? String(raw) : raw;
    if (typeof id !== "string" || id === "") throw malformed(where, "a non-empty string under `_id`", text);
    take({ id, record: record as Record<string, unknown>, where });
  };
  for await (const line of readLines(path, onBad)) {
    try {
      read(line);
    } catch (error) {
      onBad(error);
    }
  }
}

/**
 * Passages of corpus.jsonl by id; with `wanted`, only those, so that a corpus of millions needs no memory of its own.
 * Throws `ERR_INVALID_ARGUMENT` for a malformed line, unless `onBad` takes it.
 */
export async function readCorpus(
  path: string,
  wanted?: ReadonlySet<string>,
  onBad = refuse,
): Promise<Map<string, Passage>> {
  const corpus = new Map<string, Passage>();
  const take = ({ id, record, where }: BeirRecord): void => {
    if (wanted && !wanted.has(id)) return;
    const { title = "", text } = record;
    if (typeof text !== "string") throw malformed(where, "a string under `text`", JSON.stringify(text) ?? "nothing");
    if (title !== null && typeof title !== "string") {
      throw malformed(where, "a string under `title`", JSON.stringify(title));
    }
    if (corpus.has(id)) throw malformed(where, "every `_id` once", id);
    corpus.set(id, { title: title ?? "", text });
  };
  await records(path, take, onBad);
  return corpus;
}

/** Texts of queries.jsonl by id. Throws as `readCorpus` does. */
export async function readQueries(path: string, onBad = refuse): Promise<Map<string, string>> {
  const queries = new Map<string, string>();
  const take = ({ id, record: { text }, where }: BeirRecord): void => {
    if (typeof text !== "string") throw malformed(where, "a string under `text`", JSON.stringify(text) ?? "nothing");
    if (queries.has(id)) throw malformed(where, "every `_id` once", id);
    queries.set(id, text);
  };
  await records(path, take, onBad);
  return queries;
}

/** The splits a BEIR directory has judgements for: `test`, `dev`, `test.full`, … */
export async function splits(directory: string): Promise<string[]> {
  let names: string[];
  try {
    names = await readdir(join(directory, "qrels"));
  } catch (cause) {
    throw new MatryoshkaError(
      "ERR_FILE",
      `Expected a BEIR directory with corpus.jsonl, queries.jsonl and qrels/<split>.tsv at ${directory}`,
      { cause },
    );
  }
  return names
    .filter((name) => name.endsWith(".tsv"))
    .map((name) => name.slice(0, -4))
    .sort();
}

/** Judgements of one split. An unknown split is `ERR_INVALID_ARGUMENT` and names those there are; else as `readQrels`. */
export async function readSplit(directory: string, split: string, onBad = refuse): Promise<Qrels> {
  const known = await splits(directory);
  if (!known.includes(split)) {
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${directory}: expected a split out of ${known.join(", ") || "(none)"}, got ${JSON.stringify(split)}`,
    );
  }
  return readQrels(join(directory, "qrels", `${split}.tsv`), onBad);
}

/** What `id` stands for. Throws `ERR_INVALID_ARGUMENT`, the complaint and the id, where nothing does. */
export function known<T>(map: ReadonlyMap<string, T>, id: string, complaint: string): T {
  const value = map.get(id);
  if (value !== undefined) return value;
  throw new MatryoshkaError(
    "ERR_INVALID_ARGUMENT",
    `Expected ids of the run in the data set, but ${complaint} ${JSON.stringify(id)}. Do the two belong together?`,
  );
}
