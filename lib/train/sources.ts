/**
 * Reads what a run learns from: FlagEmbedding's JSON lines, or BEIR directories with a TREC run.
 */
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { MatryoshkaError } from "../errors.js";
import { known, passageText, readCorpus, readQueries, readSplit } from "../eval/beir.js";
import { malformed, type OnBadLine, splitLines } from "../eval/lines.js";
import { Random } from "../eval/random.js";
import { candidates, readRun } from "../eval/trec-run.js";
import { JSON_LINES } from "./config.js";
import type { Candidate, TrainConfig, TrainSource } from "./types.js";

export interface SourceList {
  readonly query: string;
  readonly positives: readonly Candidate[];
  /** False negatives are left out. Of an unlabelled query, all its candidates. */
  readonly negatives: readonly Candidate[];
}

export interface Source {
  readonly name: string;
  readonly lists: readonly SourceList[];
  readonly candidates: number;
  readonly skipped: number;
  /** Documents to draw strangers from. */
  readonly pool: readonly string[];
}

/** Candidates of a BEIR run that are considered where `depth` does not say. */
const DEPTH = 30;

/**
 * A source's lists, as its file or directory has them, at most `limit`. Throws `ERR_FILE`, and at the first bad line or list
 * `ERR_INVALID_ARGUMENT` or `ERR_EMPTY_QUERY` with its place, unless `skipBad` counts those.
 */
export async function readSource(
  source: TrainSource,
  config: TrainConfig,
  { skipBad }: { readonly skipBad: boolean },
): Promise<Source> {
  const bad = new Bad(skipBad);
  const lines = JSON_LINES.test(source.path);
  const all = lines ? await readJsonLines(source, config, bad) : await readBeir(source, config, bad);
  const usable = all.filter(
    ({ positives, negatives }) => positives.length + negatives.length > 1 || positives.length > 0,
  );
  const random = new Random(`${config.seed} ${source.name}`);
  const lists = source.limit === undefined ? usable : random.shuffle([...usable]).slice(0, source.limit);
  if (lists.length === 0)
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${source.path}: expected at least one list to learn from, got none`,
    );
  const documents = lists.flatMap(({ positives, negatives }) => [...positives, ...negatives]);
  return {
    ...{ name: source.name ?? source.path, lists, candidates: documents.length, skipped: bad.count },
    pool: [...new Set(documents.map(({ text }) => text))],
  };
}

/** Throws at the first bad line or list, or counts. */
class Bad {
  count = 0;
  readonly #skip: boolean;

  constructor(skip: boolean) {
    this.#skip = skip;
  }

  readonly add: OnBadLine = (error) => {
    if (!this.#skip || !(error instanceof MatryoshkaError)) throw error;
    this.count++;
  };
}

async function readJsonLines({ path }: TrainSource, config: TrainConfig, bad: Bad): Promise<SourceList[]> {
  const lists: SourceList[] = [];
  for await (const { text, where } of splitLines(open(path), path, bad.add)) {
    if (text.trim() === "") continue;
    try {
      lists.push(parseList(text, where, config));
    } catch (error) {
      bad.add(error);
    }
  }
  return lists;
}

function open(path: string) {
  const file = createReadStream(path);
  if (!path.endsWith(".gz")) return file;
  // Errors of the file reach whoever reads the text.
  const unzipped = createGunzip();
  file.on("error", (error) => unzipped.destroy(error));
  return file.pipe(unzipped);
}

function parseList(line: string, where: string, config: TrainConfig): SourceList {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line);
  } catch {
    throw malformed(where, "one JSON object a line", line);
  }
  if (typeof record !== "object" || record === null || Array.isArray(record))
    throw malformed(where, "a JSON object", line);
  const { query, pos, neg = [], pos_scores, neg_scores } = record;
  if (typeof query !== "string" || query.trim() === "") throw malformed(where, "a text under `query`", line);
  const positives = textsOf(pos, "pos", where);
  if (positives.length === 0) throw malformed(where, "at least one text under `pos`", "[]");
  const negatives = textsOf(neg, "neg", where);
  const scored = (texts: readonly string[], scores: unknown, field: string, label: number) => {
    const first = scoresOf(scores, texts.length, field, where);
    return texts.map((text, i) => ({
      text,
      label,
      teachers: config.loss.teachers.map((_, t) => (t === 0 ? first[i]! : Number.NaN)),
    }));
  };
  return sift(
    {
      query,
      positives: scored(positives, pos_scores, "pos_scores", 1),
      negatives: scored(negatives, neg_scores, "neg_scores", 0),
    },
    config,
  );
}

function textsOf(value: unknown, field: string, where: string): string[] {
  if (Array.isArray(value) && value.every((text) => typeof text === "string" && text.trim() !== "")) return value;
  throw malformed(where, `an array of texts under \`${field}\``, JSON.stringify(value) ?? "nothing");
}

function scoresOf(value: unknown, count: number, field: string, where: string): number[] {
  if (value === undefined || value === null) return new Array(count).fill(Number.NaN);
  if (Array.isArray(value) && value.length === count && value.every((score) => Number.isFinite(score))) return value;
  throw malformed(where, `${count} finite numbers under \`${field}\``, JSON.stringify(value));
}

async function readBeir(source: TrainSource, config: TrainConfig, bad: Bad): Promise<SourceList[]> {
  const { path, split = "train", depth = DEPTH } = source;
  if (source.run === undefined)
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${path}: expected a run, whose candidates are the negatives, but the source names none`,
    );
  const teacherFiles = source.teachers ?? [];
  const wanted = config.loss.teachers.length;
  if (teacherFiles.length > wanted)
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${path}: expected at most ${wanted} teachers, one for each of loss.teachers, got ${teacherFiles.length}`,
    );
  const file = join(path, source.run);
  const run = await readRun(file, bad.add);
  const qrels = await readSplit(path, split, bad.add);
  const teachers: Map<string, Map<string, number>>[] = [];
  for (const teacher of teacherFiles) {
    const scores = new Map<string, Map<string, number>>();
    for (const [query, entries] of await readRun(teacher, bad.add))
      scores.set(query, new Map(entries.map(({ id, score }) => [id, score])));
    teachers.push(scores);
  }
  const highest = [...qrels.values()].reduce((most, grades) => Math.max(most, ...grades.values()), 1);
  const queries = await readQueries(join(path, "queries.jsonl"), bad.add);
  const used = new Set(
    [...run].flatMap(([id, entries]) => [
      ...candidates(entries, depth).map((entry) => entry.id),
      ...(qrels.get(id)?.keys() ?? []),
    ]),
  );
  const corpus = await readCorpus(join(path, "corpus.jsonl"), used, bad.add);
  const lists: SourceList[] = [];
  for (const [id, entries] of run) {
    try {
      const query = known(queries, id, `${file}: queries.jsonl has no query`);
      if (query.trim() === "")
        throw new MatryoshkaError("ERR_EMPTY_QUERY", `${path}: expected text for query ${id}, got none`);
      const grades = qrels.get(id) ?? new Map<string, number>();
      const relevant = [...grades].filter(([, grade]) => grade > 0).map(([document]) => document);
      const candidate = (document: string, label: number): Candidate => ({
        ...{ text: passageText(known(corpus, document, `${file}: corpus.jsonl has no document`)), label },
        teachers: config.loss.teachers.map((_, t) => teachers[t]?.get(id)?.get(document) ?? Number.NaN),
      });
      // Where nobody said what is right, nobody said what is wrong either.
      const unjudged = relevant.length > 0 ? 0 : Number.NaN;
      lists.push(
        sift(
          {
            query,
            positives: relevant.map((document) => candidate(document, grades.get(document)! / highest)),
            negatives: candidates(entries, depth)
              .filter(({ id: document }) => !relevant.includes(document))
              .map(({ id: document }) => candidate(document, grades.has(document) ? 0 : unjudged)),
          },
          config,
        ),
      );
    } catch (error) {
      bad.add(error);
    }
  }
  return lists;
}

/** Leaves out what the first teacher takes for relevant though nobody labelled it. */
function sift(list: SourceList, { negatives: { falseNegativeMargin: margin } }: TrainConfig): SourceList {
  const best = Math.max(...list.positives.map(({ teachers }) => teachers[0] ?? Number.NaN).filter(Number.isFinite));
  if (margin === undefined || !Number.isFinite(best)) return list;
  return { ...list, negatives: list.negatives.filter(({ teachers }) => !(teachers[0]! > best + margin)) };
}
