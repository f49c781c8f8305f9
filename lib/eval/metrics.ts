/**
 * Ranking metrics with trec_eval's rules: nDCG@k with linear gains, MRR@k, MAP, recall, success, precision.
 */
import { MatryoshkaError } from "../errors.js";
import type { Judgements, Qrels } from "./qrels.js";
import type { Run, RunEntry } from "./trec-run.js";

/** A metric over one ranking: `k` is Infinity for the whole ranking. */
export interface Measure {
  /** As asked for, e.g. "nDCG@10". */
  readonly name: string;
  readonly kind: "ndcg" | "mrr" | "map" | "recall" | "success" | "precision";
  readonly k: number;
}

/** The metrics of `matryoshka eval`, in the order of its tables. */
export const STANDARD_MEASURES: readonly string[] = [
  "nDCG@1",
  "nDCG@3",
  "nDCG@5",
  "nDCG@10",
  "nDCG@20",
  "MRR@10",
  "MAP",
  "recall@10",
  "recall@100",
  "success@1",
  "success@10",
];

const KINDS: Readonly<Record<string, Measure["kind"]>> = {
  ndcg: "ndcg",
  mrr: "mrr",
  rr: "mrr",
  map: "map",
  ap: "map",
  recall: "recall",
  r: "recall",
  success: "success",
  precision: "precision",
  p: "precision",
};

/** Parses "nDCG@10", "MRR@10", "MAP", "recall@100", "success@1", "precision@5", in any case; no "@k" is the whole ranking. */
export function parseMeasure(name: string): Measure {
  const match = /^([a-z]+)(?:@(\d+))?$/i.exec(name.trim());
  const word = match?.[1]?.toLowerCase() ?? "";
  const kind = Object.hasOwn(KINDS, word) ? KINDS[word] : undefined;
  const k = match?.[2] === undefined ? Number.POSITIVE_INFINITY : Number(match[2]);
  if (!kind || k < 1) {
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected a metric such as ${STANDARD_MEASURES.join(", ")}, got ${JSON.stringify(name)}`,
    );
  }
  return { name: name.trim(), kind, k };
}

/**
 * trec_eval's ranking of a run: scores descending, compared in single precision (trec_eval 9 stores them as floats),
 * ties by document id descending in byte order. The order and the rank column of the file do not matter.
 */
export function trecOrder(entries: readonly RunEntry[]): string[] {
  return entries
    .map(({ id, score }) => ({ id, score: Math.fround(score) }))
    .sort((a, b) => b.score - a.score || compareBytes(b.id, a.id))
    .map(({ id }) => id);
}

/** Byte order of the UTF-8 forms, which differs from JavaScript's order only where surrogate pairs meet U+E000 and up. */
function compareBytes(a: string, b: string): number {
  if (a === b) return 0;
  return /[\ud800-\udfff]/.test(a + b) ? Buffer.compare(Buffer.from(a), Buffer.from(b)) : a < b ? -1 : 1;
}

/**
 * One metric of one ranking (document ids, best first). Grades are gains; negative grades count as unjudged, unjudged
 * documents as not relevant; the ideal ranking is over all judgements of the query. Binary metrics call a document
 * relevant from `relevanceLevel` (trec_eval -l). A query without relevant documents scores 0.
 */
export function measure(
  { kind, k }: Measure,
  ranking: readonly string[],
  judgements: Judgements,
  relevanceLevel = 1,
): number {
  const depth = Math.min(k, ranking.length);
  if (kind === "ndcg") {
    let dcg = 0;
    for (let i = 0; i < depth; i++) dcg += Math.max(0, judgements.get(ranking[i]!) ?? 0) / Math.log2(i + 2);
    const ideal = idealDcg(judgements, k);
    return ideal > 0 ? dcg / ideal : 0;
  }
  let relevant = 0;
  for (const grade of judgements.values()) if (grade >= relevanceLevel) relevant++;
  let found = 0;
  let precisions = 0;
  let first = 0;
  for (let i = 0; i < depth; i++) {
    if ((judgements.get(ranking[i]!) ?? -1) < relevanceLevel) continue;
    found++;
    precisions += found / (i + 1);
    if (first === 0) first = i + 1;
  }
  switch (kind) {
    case "mrr":
      return first > 0 ? 1 / first : 0;
    case "map":
      return relevant > 0 ? precisions / relevant : 0;
    case "recall":
      return relevant > 0 ? found / relevant : 0;
    case "success":
      return found > 0 ? 1 : 0;
    case "precision":
      return found / (Number.isFinite(k) ? k : Math.max(1, depth));
  }
}

/** DCG@k of the best possible ranking: positive grades descending. */
export function idealDcg(judgements: Judgements, k: number): number {
  const gains = [...judgements.values()].filter((grade) => grade > 0).sort((a, b) => b - a);
  let dcg = 0;
  for (let i = 0; i < Math.min(k, gains.length); i++) dcg += gains[i]! / Math.log2(i + 2);
  return dcg;
}

export interface EvaluateOptions {
  /** Lowest grade that counts as relevant in binary metrics. Defaults to 1. */
  readonly relevanceLevel?: number;
  /**
   * Which queries the mean is over. `"retrieved"` (default, trec_eval's own): judged queries that the rankings have;
   * `"judged"` (trec_eval -c): all judged queries, 0 where there is no ranking; `"answerable"`: judged queries with a
   * document at or above `relevanceLevel`, 0 where there is no ranking.
   */
  readonly over?: "retrieved" | "judged" | "answerable";
}

export interface Evaluation {
  /** Mean over `queries` by metric name. */
  readonly mean: Readonly<Record<string, number>>;
  /** Query ids the mean is over, in the order of the qrels. */
  readonly queries: readonly string[];
  /** [queries] values by metric name, aligned with `queries`. */
  readonly perQuery: Readonly<Record<string, Float64Array>>;
}

/**
 * Metrics of rankings (query id to document ids, best first). Throws `ERR_INVALID_ARGUMENT` for a document ranked
 * twice, for an unknown metric, and if no query is left to average over.
 */
export function evaluate(
  rankings: ReadonlyMap<string, readonly string[]>,
  qrels: Qrels,
  measures: readonly string[] = STANDARD_MEASURES,
  { relevanceLevel = 1, over = "retrieved" }: EvaluateOptions = {},
): Evaluation {
  const parsed = measures.map(parseMeasure);
  const queries = [...qrels]
    .filter(([query, judgements]) =>
      over === "retrieved"
        ? rankings.has(query)
        : over === "judged" || [...judgements.values()].some((grade) => grade >= relevanceLevel),
    )
    .map(([query]) => query);
  if (queries.length === 0) {
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected at least one query that is both ranked and judged, got ${rankings.size} ranked and ${qrels.size} judged with none in common`,
    );
  }
  const perQuery: Record<string, Float64Array> = {};
  for (const { name } of parsed) perQuery[name] = new Float64Array(queries.length);
  queries.forEach((query, index) => {
    const ranking = rankings.get(query) ?? [];
    if (new Set(ranking).size !== ranking.length) {
      throw new MatryoshkaError(
        "ERR_INVALID_ARGUMENT",
        `Expected every document once in the ranking of query ${query}`,
      );
    }
    for (const each of parsed) {
      perQuery[each.name]![index] = measure(each, ranking, qrels.get(query)!, relevanceLevel);
    }
  });
  const mean: Record<string, number> = {};
  for (const { name } of parsed) mean[name] = perQuery[name]!.reduce((sum, x) => sum + x, 0) / queries.length;
  return { mean, queries, perQuery };
}

/** Every query of a run in trec_eval's order. */
export function trecRankings(run: Run): Map<string, string[]> {
  return new Map([...run].map(([query, entries]) => [query, trecOrder(entries)]));
}
