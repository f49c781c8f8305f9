/**
 * The evaluation sets under ../shared/data/eval with the protocol of the bundled model's card, and the queries that its
 * certificates are calibrated on. Scores are kept in a store, as `matryoshka eval` keeps them.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beirLists, type List } from "../dist/cli/lists.js";
import { Output } from "../dist/cli/output.js";
import { trajectories } from "../dist/cli/trajectories.js";
import { readSplit } from "../dist/eval/beir.js";
import type { Qrels } from "../dist/eval/qrels.js";
import { spread } from "../dist/eval/spread.js";
import { type Run, readRun } from "../dist/eval/trec-run.js";
import type { TrajectorySet } from "../dist/exit/trajectory.js";
import { fingerprint } from "../dist/fingerprint.js";
import { type Device, type Dtype, Reranker } from "../dist/index.js";

const DATA = fileURLToPath(new URL("../../shared/data/eval", import.meta.url));

/** In the card's order. Of the last two, the first 100 queries of the judgements that have candidates. */
export const SETS = [
  "trec-dl-21",
  "wikiqa",
  "hotpotqa-small",
  "musique-small",
  "dbpedia-entity-small",
  "nfcorpus",
  "scifact",
] as const;
export type SetName = (typeof SETS)[number];

/** Those of `sets` that were asked for by name, all of them where none was. */
export function chosenSets<Name extends string>(sets: readonly Name[], names: readonly string[] | undefined): Name[] {
  const unknown = names?.find((name) => !(sets as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`Expected --set ${sets.join(", ")}, but received ${unknown}`);
  return sets.filter((name) => names?.includes(name) ?? true);
}

/** Sets with training queries, from which calibration draws; their labels are not read. */
const POOL = ["nfcorpus", "scifact"] as const;
export const POOL_QUERIES = 212;
const CANDIDATES = 100;
/** Tokens of a sequence: what the package defaults to. */
export const MAX_LENGTH = 512;

export interface EvaluationSet {
  readonly name: string;
  readonly lists: readonly List[];
  readonly qrels: Qrels;
}

/** Why there is nothing to evaluate on; undefined if there is. */
export function missingSets(): string | undefined {
  return existsSync(DATA) ? undefined : "the evaluation sets are not at ../shared/data/eval";
}

/** Runs with a model open, the bundled one by default, or says why there is nothing to run on. */
export async function withModel(
  {
    model,
    device = "cpu",
    dtype,
  }: { readonly model?: string | undefined; readonly device?: string; readonly dtype: string },
  run: (reranker: Reranker, dtype: Dtype) => Promise<void>,
): Promise<void> {
  const missing = missingSets();
  if (missing) return console.log(`skipped: ${missing}`);
  await using reranker = await Reranker.open(model, { device: device as Device, dtype: dtype as Dtype });
  await run(reranker, dtype as Dtype);
}

/** BM25's first 100 of every query that has a relevant document. */
export async function evaluationSet(name: SetName): Promise<EvaluationSet> {
  const directory = join(DATA, name);
  const run = await readRun(join(directory, "runs", "bm25.test.trec"));
  const qrels = await readSplit(directory, name === "trec-dl-21" ? "test.full" : "test");
  const relevant = [...qrels].filter(([query, grades]) => run.has(query) && [...grades.values()].some((g) => g > 0));
  const some = name === "nfcorpus" || name === "scifact" ? relevant.slice(0, 100) : relevant;
  const wanted = new Set(some.map(([query]) => query));
  const lists = await beirLists(directory, only(run, wanted), { depth: CANDIDATES });
  return { name, lists, qrels };
}

/**
 * Training queries with more than 10 candidates, `count` of each set, spread evenly over it: no text is shared with the test
 * queries.
 */
export async function calibrationLists(count = POOL_QUERIES): Promise<List[]> {
  const lists: List[] = [];
  for (const name of POOL) {
    const directory = join(DATA, name);
    const run = await readRun(join(directory, "runs", "bm25.train.trec"));
    const queries = [...run].filter(([, entries]) => entries.length > 10).map(([query]) => query);
    const wanted = new Set(spread(queries, count));
    const own = await beirLists(directory, only(run, wanted), { depth: CANDIDATES });
    lists.push(...own.map((list) => ({ ...list, query: `${name}-${list.query}`, group: name })));
  }
  return lists;
}

function only(run: Run, queries: ReadonlySet<string>): Run {
  return new Map([...run].filter(([query]) => queries.has(query)));
}

const output = new Output({ json: false, quiet: false });

/** Every layer's score of every candidate; what the store has is not scored again. */
export async function scored(
  reranker: Reranker,
  lists: readonly List[],
  name: string,
  conditions: { readonly dtype: Dtype; readonly maxLength: number },
  store: string | undefined,
): Promise<TrajectorySet> {
  const print = await fingerprint(reranker.info.directory, conditions);
  const signal = new AbortController().signal;
  return trajectories(reranker, lists, { fingerprint: print, directory: store, name, output, signal });
}
