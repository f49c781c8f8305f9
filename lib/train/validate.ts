/**
 * Validation: nDCG@10 of reranking BEIR candidates at every exit, with the weights in training, by trec_eval's rules.
 */
import { basename, join, resolve } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { known, passageText, readCorpus, readQueries, readSplit } from "../eval/beir.js";
import { evaluate, trecOrder } from "../eval/metrics.js";
import type { Qrels } from "../eval/qrels.js";
import { spread } from "../eval/spread.js";
import { candidates, readRun } from "../eval/trec-run.js";
import type { NativeTrainer } from "../native-trainer.js";
import { type ScoringList, scoreLists } from "./score-lists.js";
import type { TrainConfig, TrainEncoder } from "./types.js";

const MEASURE = "nDCG@10";

export interface ValidationSet {
  readonly name: string;
  readonly qrels: Qrels;
  readonly lists: readonly (ScoringList & { readonly ids: readonly string[] })[];
}

/** Reads a set's judged queries, evenly chosen where there are more than `queries`. Paths are relative to `base`. */
export async function openValidation(
  base: string,
  {
    path,
    split,
    run: file,
    queries: most = Number.POSITIVE_INFINITY,
    depth = 100,
  }: TrainConfig["validation"]["sets"][number],
): Promise<ValidationSet> {
  const directory = resolve(base, path);
  const qrels = await readSplit(directory, split);
  const run = await readRun(join(directory, file));
  const judged = [...run.keys()].filter((query) => qrels.has(query));
  if (judged.length === 0)
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `${join(directory, file)}: expected at least one query that ${split} judges, got ${run.size} of which none is`,
    );
  const chosen = spread(judged, most);
  const ids = new Map(chosen.map((query) => [query, candidates(run.get(query)!, depth).map(({ id }) => id)]));
  const texts = await readQueries(join(directory, "queries.jsonl"));
  const corpus = await readCorpus(join(directory, "corpus.jsonl"), new Set([...ids.values()].flat()));
  return {
    name: basename(directory),
    qrels,
    lists: chosen.map((key) => ({
      key,
      query: known(texts, key, `${join(directory, file)}: queries.jsonl has no query`),
      ids: ids.get(key)!,
      documents: ids
        .get(key)!
        .map((id) => passageText(known(corpus, id, `${join(directory, file)}: corpus.jsonl has no document`))),
    })),
  };
}

export interface Validated {
  readonly name: string;
  readonly queries: number;
  readonly pairs: number;
  /** By exit. */
  readonly ndcg: readonly number[];
}

/** Rejects with the signal's reason between queries. */
export async function validate(
  trainer: NativeTrainer,
  encoder: TrainEncoder,
  { name, qrels, lists }: ValidationSet,
  exits: number,
  signal: AbortSignal | undefined,
): Promise<Validated> {
  const rankings = Array.from({ length: exits }, () => new Map<string, string[]>());
  let pairs = 0;
  for await (const { list, scores } of scoreLists(trainer, encoder, lists, signal)) {
    pairs += list.ids.length;
    for (const [exit, ranking] of rankings.entries())
      ranking.set(list.key, trecOrder(list.ids.map((id, d) => ({ id, score: scores[d * exits + exit]! }))));
  }
  const ndcg = rankings.map((ranking) => evaluate(ranking, qrels, [MEASURE]).mean[MEASURE]!);
  return { name, queries: lists.length, pairs, ndcg };
}
