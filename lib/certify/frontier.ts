/**
 * What the budget rule costs and loses by its stake, measured on calibration queries: how a budget finds its stake.
 */
import { MatryoshkaError } from "../errors.js";
import type { CostShape } from "../exit/cost.js";
import { replay } from "../exit/replay.js";
import type { ExitHead } from "../exit/rule.js";
import { column, type TrajectorySet } from "../exit/trajectory.js";
import { computeShare } from "./assess.js";
import { ndcgLoss } from "./losses.js";
import { meanBound } from "./pvalues.js";

export interface FrontierPoint {
  readonly stake: number;
  /** Mean fraction of full depth's FLOPs on CAL. */
  readonly compute: number;
  /** Mean drop of nDCG@k there, judged by the gains that full depth's own scores stand for: no label is read. */
  readonly loss: number;
  /** The mean drop on queries like those of CAL is no larger, with confidence 1 − δ. Absent where δ is null. */
  readonly bound?: number;
}

/** From where hardly anybody stops to where nearly everybody does. */
const SMALLEST = 2e-6;
const RATIO = 1.3;
const POINTS = 42;

/**
 * Measured on CAL, whose order must not depend on scores, over a grid of stakes, dearest first: the first one, 0, is full
 * depth.
 */
export function frontier(
  cal: TrajectorySet,
  exits: readonly ExitHead[],
  k: number,
  cost: CostShape,
  delta: number | null,
): FrontierPoint[] {
  const stakes = Array.from({ length: POINTS }, (_, i) => SMALLEST * RATIO ** i);
  const measured = stakes.map((stake): FrontierPoint => {
    const rule = { type: "budget", k, stake, exits } as const;
    let compute = 0;
    const losses = cal.lists.map((list) => {
      const result = replay(rule, list, cal.layers);
      compute += computeShare(cost, list, result);
      return ndcgLoss(column(list, cal.layers.length, cal.layers.length - 1), result, k);
    });
    const n = losses.length;
    const loss = losses.reduce((sum, each) => sum + each, 0) / n;
    return { stake, compute: compute / n, loss, ...(delta !== null && { bound: meanBound(losses, delta) }) };
  });
  return [{ stake: 0, compute: 1, loss: 0 }, ...measured];
}

/** What a budget buys. */
export interface Spending {
  readonly stake: number;
  /** On CAL, at most: that of the next larger stake measured. */
  readonly loss: number;
}

/**
 * The smallest stake whose compute is within `budget`, between points by linear interpolation. Throws `ERR_INVALID_ARGUMENT`
 * if even the cheapest point needs more, saying how much.
 */
export function spend(points: readonly FrontierPoint[], budget: number): Spending {
  const sorted = [...points].sort((a, b) => a.stake - b.stake);
  const within = sorted.findIndex(({ compute }) => compute <= budget);
  if (within < 0) {
    const cheapest = sorted.reduce((least, { compute }) => Math.min(least, compute), 1);
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected a budget of at least ${cheapest.toFixed(3)} of full depth, got ${budget}: the rule cannot be cheaper than that with its exits and k`,
    );
  }
  const b = sorted[within]!;
  const a = sorted[within - 1];
  if (!a) return b;
  return { stake: a.stake + ((a.compute - budget) / (a.compute - b.compute)) * (b.stake - a.stake), loss: b.loss };
}

/**
 * The largest stake whose mean loss, and that of all smaller ones, is bounded by `loss`: tests in a fixed sequence, so that the
 * bound holds with confidence 1 − δ for the one that is chosen. Undefined where only full depth loses so little.
 */
export function lose(points: readonly FrontierPoint[], loss: number): FrontierPoint | undefined {
  const sorted = points.filter(({ stake }) => stake > 0).sort((a, b) => a.stake - b.stake);
  const beyond = sorted.findIndex(({ bound = 1 }) => bound > loss);
  return sorted[beyond < 0 ? sorted.length - 1 : beyond - 1];
}
