/**
 * What an evaluation found: figures of every depth and every exit rule, from trajectories and from timed runs.
 */
import { assess, computeShare, fullOrder, hasTopK, topKRecall } from "../certify/assess.js";
import type { Certificate, Fingerprint } from "../certify/certificate.js";
import { type Evaluation, evaluate, trecOrder } from "../eval/metrics.js";
import type { Qrels } from "../eval/qrels.js";
import { type PairedComparison, pairedComparison } from "../eval/significance.js";
import type { RunEntry } from "../eval/trec-run.js";
import { type CostShape, listFlops } from "../exit/cost.js";
import { type Replay, replay } from "../exit/replay.js";
import type { Trajectory, TrajectorySet } from "../exit/trajectory.js";
import { planExit } from "../exit-plan.js";
import type { CertificateStatus, Exit } from "../types.js";
import type { List } from "./lists.js";

type Metrics = Readonly<Record<string, number>>;

/** Which ranking differs from the one compared with, and how surely. */
export interface Significance extends PairedComparison {
  readonly against: string;
  readonly measure: string;
}

export interface DepthReport {
  readonly layer: number;
  readonly metrics: Metrics;
  /** Share of full depth's FLOPs. */
  readonly computeFraction: number;
  /** Null where nothing was timed. */
  readonly pairsPerSecond: number | null;
  readonly significance?: Significance;
}

export interface RuleReport {
  /** As given. */
  readonly rule: string;
  readonly metrics: Metrics;
  readonly computeFraction: number;
  /** Share of full depth's wall time on the same queries; null where nothing was timed. */
  readonly wallFraction: number | null;
  readonly pairsPerSecond: number | null;
  /** Share of queries whose first k documents are full depth's, in the same order. */
  readonly exactTopK: number;
  /** Mean share of full depth's first k documents that are among the first k. */
  readonly recallTopK: number;
  readonly k: number;
  /** Documents by the layer at which they stopped. */
  readonly exitHistogram: Readonly<Record<number, number>>;
  /** Of `top-k` and `budget`: what is promised, or why nothing is; and for how many queries it holds. */
  readonly certificate?: CertificateStatus & { readonly queries: number };
  readonly significance?: Significance;
}

/** What `--json` prints, one object a run. */
export interface Report {
  readonly dataset: string;
  readonly split: string;
  readonly run: string;
  readonly model: string;
  readonly dtype: string;
  readonly maxLength: number;
  /** Most candidates of a query. */
  readonly candidates: number;
  readonly queries: number;
  readonly pairs: number;
  /** Queries whose times were taken. */
  readonly timedQueries: number;
  /** Judged queries that the run does not have; judged queries and documents that the data set does not have. */
  readonly left: { readonly notInRun: number; readonly unknownQueries: number; readonly unknownDocuments: number };
  /** The candidates in the order they came. */
  readonly firstStage: { readonly metrics: Metrics; readonly significance?: Significance };
  readonly depths: readonly DepthReport[];
  readonly rules: readonly RuleReport[];
}

/** What rankings are judged by. */
export interface Judge {
  readonly qrels: Qrels;
  readonly measures: readonly string[];
  /** Another run's values for the same queries. */
  readonly compare?: { readonly name: string; readonly rankings: ReadonlyMap<string, readonly string[]> } | undefined;
}

/** A report with its ranking of every query. */
export interface Ranked<Row> {
  readonly report: Row;
  readonly run: ReadonlyMap<string, readonly RunEntry[]>;
}

/** The candidates as they came. */
export function firstStage(lists: readonly List[], judge: Judge): { metrics: Metrics; significance?: Significance } {
  const entries = (list: List): RunEntry[] =>
    list.documents.map(({ id }, i) => ({ id, score: list.firstStage?.[i] ?? -i }));
  return judged(new Map(lists.map((list) => [list.query, entries(list)])), judge);
}

/** Everybody stops at `layer`. */
export function depthReport(
  layer: number,
  set: TrajectorySet,
  judge: Judge,
  cost: CostShape,
  pairsPerSecond: number | null,
): Ranked<DepthReport> {
  const rule = { type: "layer", layer } as const;
  const run = new Map(set.lists.map((list) => [list.query, entries(list, replay(rule, list, set.layers))]));
  const { computeFraction } = assess(set, rule, 1, cost);
  return { report: { layer, ...judged(run, judge), computeFraction, pairsPerSecond }, run };
}

export interface RuleOptions {
  readonly words: string;
  readonly exit: Exit;
  readonly certificates: readonly Certificate[];
  readonly fingerprint: Fingerprint;
  readonly wall: { readonly fraction: number; readonly pairsPerSecond: number } | undefined;
}

/** Everybody stops by a rule, each list by its own plan; `flops` are those of all lists together. */
export function ruleReport(
  { words, exit, certificates, fingerprint, wall }: RuleOptions,
  set: TrajectorySet,
  judge: Judge,
  cost: CostShape,
): Ranked<RuleReport> & { readonly flops: number } {
  const k = ("k" in exit ? exit.k : undefined) ?? 10;
  const run = new Map<string, RunEntry[]>();
  const exitHistogram: Record<number, number> = {};
  let computeFraction = 0;
  let flops = 0;
  let exact = 0;
  let recall = 0;
  let status: CertificateStatus | undefined;
  let holding = 0;
  for (const list of set.lists) {
    // Whether a certificate holds depends on the list's length, so each has its own plan.
    const { rule, certificate } = planExit(exit, certificates, { ...fingerprint, candidates: list.documents.length });
    if (certificate?.holds) holding++;
    if (certificate && !status?.holds) status = certificate;
    const result = replay(rule, list, set.layers);
    run.set(list.query, entries(list, result));
    for (const layer of result.exitLayers) exitHistogram[layer] = (exitHistogram[layer] ?? 0) + 1;
    computeFraction += computeShare(cost, list, result);
    flops += listFlops(cost, list.tokens, result.exitLayers);
    const full = fullOrder(list, set.layers);
    if (hasTopK(result, full, k)) exact++;
    recall += topKRecall(result, full, k);
  }
  const report: RuleReport = {
    rule: words,
    ...judged(run, judge),
    computeFraction: computeFraction / set.lists.length,
    wallFraction: wall?.fraction ?? null,
    pairsPerSecond: wall?.pairsPerSecond ?? null,
    exactTopK: exact / set.lists.length,
    recallTopK: recall / set.lists.length,
    k,
    exitHistogram,
    ...(status && { certificate: { ...status, queries: holding } }),
  };
  return { report, run, flops };
}

/** Metrics of a run by trec_eval's rules, ties included: trec_eval on the same run file gives the same figures. */
function judged(
  run: ReadonlyMap<string, readonly RunEntry[]>,
  { qrels, measures, compare }: Judge,
): { metrics: Metrics; significance?: Significance } {
  const rankings = new Map([...run].map(([query, each]) => [query, trecOrder(each)]));
  const own = evaluate(rankings, qrels, measures);
  if (!compare) return { metrics: own.mean };
  return { metrics: own.mean, significance: significance(own, compare, qrels, measures) };
}

function significance(
  own: Evaluation,
  { name, rankings }: NonNullable<Judge["compare"]>,
  qrels: Qrels,
  measures: readonly string[],
): Significance {
  const measure = measures.find((each) => each.toLowerCase() === "ndcg@10") ?? measures[0]!;
  const same = new Map(own.queries.map((query) => [query, rankings.get(query) ?? []]));
  const other = evaluate(same, qrels, [measure]);
  return { against: name, measure, ...pairedComparison(own.perQuery[measure]!, other.perQuery[measure]!) };
}

const view = new DataView(new ArrayBuffer(4));

/** The next float32 towards −∞. */
function below(value: number): number {
  if (value === 0) return -1.401298464324817e-45;
  view.setFloat32(0, value);
  view.setInt32(0, view.getInt32(0) + (value > 0 ? -1 : 1));
  return view.getFloat32(0);
}

/**
 * A ranking as run entries whose scores sort into the same order. Scores stay as they are, except where a document that
 * stopped early, or has no finite score, must come after one that scores no higher: it is lowered to just below that one.
 */
function entries(list: Trajectory, { order, scores, exact }: Replay): RunEntry[] {
  let last: { score: number; exact: number } | undefined;
  return Array.from(order, (d) => {
    let score = Number.isFinite(scores[d]!) ? scores[d]! : Number.NEGATIVE_INFINITY;
    if (last && (!Number.isFinite(score) || score > last.score || (score === last.score && exact[d] !== last.exact)))
      score = below(last.score);
    if (!Number.isFinite(score)) score = 0;
    last = { score, exact: exact[d]! };
    return { id: list.documents[d]!, score };
  });
}
