/**
 * Budget mode: the scale that meets a mean compute, and what can still be certified at it.
 */
import { MatryoshkaError } from "../errors.js";
import type { CostShape } from "../exit/cost.js";
import type { ExitHead } from "../exit/rule.js";
import type { TrajectorySet } from "../exit/trajectory.js";
import { assess } from "./assess.js";
import { riskUpperBound } from "./pvalues.js";

export interface FrontierPoint {
  readonly scale: number;
  /** Mean fraction of full depth's FLOPs on CAL. */
  readonly compute: number;
  /** Share of queries whose top k is full depth's, on CAL. */
  readonly exactTopK: number;
  /** Largest share of queries for which it may not be: certified on CAL, for all points at once. */
  readonly alpha: number;
}

const POINTS = 24;

/**
 * What the top-k rule costs and keeps on CAL over a grid of scales, cheapest first, up to the one at which nothing is lost
 * there. `scales` are CAL's critical scales; the bounds hold together with probability ≥ 1 − δ, so that a budget may pick
 * any of them.
 */
export function frontier(
  cal: TrajectorySet,
  exits: readonly ExitHead[],
  k: number,
  cost: CostShape,
  scales: ArrayLike<number>,
  delta: number,
): FrontierPoint[] {
  const largest = Array.from(scales).reduce((a, b) => (Number.isFinite(b) ? Math.max(a, b) : a), 0);
  // Denser near 0, where compute changes fastest.
  const grid = Array.from({ length: POINTS }, (_, i) => Math.fround(largest * (i / (POINTS - 1)) ** 2));
  return [...new Set(grid)].map((scale) => {
    const { computeFraction, exactTopK } = assess(cal, { type: "top-k", k, scale, exits }, k, cost);
    return { scale, compute: computeFraction, exactTopK, alpha: certifiedAlpha(scales, scale, delta / POINTS) };
  });
}

/**
 * Largest scale whose compute is within `budget`, by linear interpolation between points. Throws
 * `ERR_INVALID_ARGUMENT` if even the cheapest point needs more, saying how much.
 */
export function scaleForBudget(points: readonly FrontierPoint[], budget: number): number {
  const sorted = [...points].sort((a, b) => a.scale - b.scale);
  const cheapest = sorted[0];
  if (!cheapest || !(cheapest.compute <= budget)) {
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected a budget of at least ${cheapest ? cheapest.compute.toFixed(3) : "?"} of full depth, got ${budget}: the rule cannot be cheaper than that with its exits and k`,
    );
  }
  for (let i = 1; i < sorted.length; i++) {
    const a = sorted[i - 1]!;
    const b = sorted[i]!;
    if (b.compute <= budget) continue;
    return Math.fround(a.scale + ((budget - a.compute) / (b.compute - a.compute)) * (b.scale - a.scale));
  }
  return sorted[sorted.length - 1]!.scale;
}

/**
 * Smallest α that can be certified with confidence 1 − δ at one scale: the Clopper–Pearson bound on
 * the share of queries whose critical scale exceeds it.
 */
export function certifiedAlpha(scales: ArrayLike<number>, scale: number, delta: number): number {
  let failures = 0;
  for (let i = 0; i < scales.length; i++) if (scales[i]! > scale) failures++;
  return riskUpperBound(failures, scales.length, delta);
}
