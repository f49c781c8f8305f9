/**
 * Learn then Test: certifies any rule, monotone or not, along a path that was fixed before the calibration data were
 * seen (Angelopoulos et al. 2021; Pareto ordering from Laufer-Goldshtein et al. 2022).
 */
import { MatryoshkaError } from "../errors.js";
import type { Rule } from "../exit/rule.js";
import type { TrajectorySet } from "../exit/trajectory.js";
import { sameTopK } from "./assess.js";
import { binomialPValue } from "./pvalues.js";

/**
 * How many configurations of a path, safest first, are certified: they are tested in order at level δ each until the
 * first that fails, and the one that failed is not among them. 0 means full depth. P(any certified one is unsafe) ≤ δ.
 */
export function fixedSequence(pValues: readonly number[], delta: number): number {
  let certified = 0;
  while (certified < pValues.length && pValues[certified]! <= delta) certified++;
  return certified;
}

/** A configuration as seen on queries that are not of CAL. */
export interface Point {
  readonly risk: number;
  readonly cost: number;
}

/** Indices of the configurations that no other beats in both risk and cost, safest first: the path to test on CAL. */
export function paretoPath(points: readonly Point[]): number[] {
  const order = points.map((_, i) => i);
  order.sort((a, b) => points[a]!.risk - points[b]!.risk || points[a]!.cost - points[b]!.cost || a - b);
  let cheapest = Number.POSITIVE_INFINITY;
  return order.filter((i) => {
    if (points[i]!.cost >= cheapest) return false;
    cheapest = points[i]!.cost;
    return true;
  });
}

export interface PathResult {
  /** The last certified rule, or undefined: run full depth. */
  readonly rule: Rule | undefined;
  /** How many rules of the path are certified. */
  readonly certified: number;
  /** Failures out of n, per rule tested. */
  readonly failures: readonly number[];
  readonly n: number;
}

/**
 * Certifies "the top k differs from full depth's in at most a share α of queries" for a path of rules, safest first:
 * how the confidence rule and any other without a closed form get their thresholds. With probability ≥ 1 − δ.
 */
export function calibratePath(
  path: readonly Rule[],
  cal: TrajectorySet,
  { k, alpha, delta }: { readonly k: number; readonly alpha: number; readonly delta: number },
): PathResult {
  const n = cal.lists.length;
  if (n === 0) throw new MatryoshkaError("ERR_INVALID_ARGUMENT", "Expected calibration queries, got none");
  const failures: number[] = [];
  for (const rule of path) {
    const failed = cal.lists.reduce((sum, list) => sum + (sameTopK(rule, list, cal.layers, k) ? 0 : 1), 0);
    failures.push(failed);
    if (binomialPValue(failed, n, alpha) > delta) break;
  }
  const certified = fixedSequence(
    failures.map((failed) => binomialPValue(failed, n, alpha)),
    delta,
  );
  return { rule: certified > 0 ? path[certified - 1] : undefined, certified, failures, n };
}
