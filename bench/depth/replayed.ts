/**
 * What a rule does to the lists, replayed from stored scores: FLOPs, quality, exits, or why it cannot run.
 */
import type { Certificate, Fingerprint } from "../../dist/certify/certificate.js";
import { type Judge, ruleReport } from "../../dist/cli/report.js";
import { fullFlops, listFlops } from "../../dist/exit/cost.js";
import type { TrajectorySet } from "../../dist/exit/trajectory.js";
import { planExit } from "../../dist/exit-plan.js";
import type { Exit, ModelInfo } from "../../dist/index.js";

export interface Replayed {
  readonly ndcg: number;
  /** Share of queries whose first k documents are full depth's. */
  readonly exactTopK: number;
  /** Mean over queries of FLOPs over full depth's. */
  readonly compute: number;
  /** Σ_l P(exit at l) · FLOPs up to l, for documents of mean length, as a share of full depth's. */
  readonly expectedCost: number;
  readonly gflopsPerPair: number;
  /** Documents by the layer at which they stopped. */
  readonly exitHistogram: Readonly<Record<number, number>>;
  /** Queries for which a certificate holds; undefined where the rule has none. */
  readonly certifiedQueries?: number;
}

export interface Conditions {
  readonly certificates: readonly Certificate[];
  readonly fingerprint: Fingerprint;
  readonly judge: Judge;
  readonly info: ModelInfo;
}

/** The figures, or the reason that the rule would run everybody to full depth. */
export function replayed(
  exit: Exit,
  set: TrajectorySet,
  { certificates, fingerprint, judge, info }: Conditions,
): Replayed | string {
  const plan = (documents: number) => planExit(exit, certificates, { ...fingerprint, candidates: documents });
  try {
    const plans = set.lists.map(({ documents }) => plan(documents.length));
    const { certificate } = plans[0]!;
    if (exit.type !== "layer" && plans.every(({ rule }) => rule.type === "full"))
      return certificate && !certificate.holds ? [...new Set(certificate.reasons)].join(" ") : "nobody would stop";
  } catch (error) {
    return (error as Error).message; // a budget that this model's exits cannot meet
  }
  const options = { words: "", exit, certificates, fingerprint, wall: undefined };
  const { report } = ruleReport(options, set, judge, info);
  const tokens = set.lists.flatMap((list) => Array.from(list.tokens));
  const mean = tokens.reduce((sum, n) => sum + n, 0) / tokens.length;
  const stops = Object.entries(report.exitHistogram);
  const expected = stops.reduce(
    (sum, [layer, documents]) => sum + (documents / tokens.length) * listFlops(info, [mean], [Number(layer)]),
    0,
  );
  return {
    ...{ ndcg: report.metrics["nDCG@10"]!, exactTopK: report.exactTopK, exitHistogram: report.exitHistogram },
    ...{ compute: report.computeFraction, expectedCost: expected / fullFlops(info, [mean]) },
    gflopsPerPair: (report.computeFraction * fullFlops(info, tokens)) / tokens.length / 1e9,
    ...(exit.type === "top-k" && { certifiedQueries: report.certificate?.queries ?? 0 }),
  };
}
