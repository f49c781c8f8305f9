/**
 * What the budget rule costs and loses by its stake, measured on calibration queries: how a budget finds its stake.
 */
import { MatryoshkaError } from "../errors.js";
import { discounts, gains } from "../exit/budget.js";
import type { CostShape } from "../exit/cost.js";
import { replay } from "../exit/replay.js";
import type { ExitHead } from "../exit/rule.js";
import { column, ranked, type TrajectorySet } from "../exit/trajectory.js";
import { computeShare } from "./assess.js";

export interface FrontierPoint {
  readonly stake: number;
  /** Mean fraction of full depth's FLOPs on CAL. */
  readonly compute: number;
  /** Mean drop of nDCG@k there, judged by the gains that full depth's own scores stand for: no label is read. */
  readonly loss: number;
}

/** From where hardly anybody stops to where nearly everybody does. */
const SMALLEST = 1e-6;
const LARGEST = 0.1;
const POINTS = 26;

/** Measured on CAL over a grid of stakes, dearest first: the first one, 0, is full depth. */
export function frontier(cal: TrajectorySet, exits: readonly ExitHead[], k: number, cost: CostShape): FrontierPoint[] {
  const ratio = (LARGEST / SMALLEST) ** (1 / (POINTS - 1));
  const stakes = Array.from({ length: POINTS }, (_, i) => SMALLEST * ratio ** i);
  const measured = stakes.map((stake): FrontierPoint => {
    const rule = { type: "budget", k, stake, exits } as const;
    let [compute, loss] = [0, 0];
    for (const list of cal.lists) {
      const result = replay(rule, list, cal.layers);
      compute += computeShare(cost, list, result);
      loss += ownLoss(column(list, cal.layers.length, cal.layers.length - 1), result.order, k);
    }
    return { stake, compute: compute / cal.lists.length, loss: loss / cal.lists.length };
  });
  return [{ stake: 0, compute: 1, loss: 0 }, ...measured];
}

/** 1 − nDCG@k of `order` with the gains of `finals`, full depth's scores. */
function ownLoss(finals: Float32Array, order: Uint32Array, k: number): number {
  const gain = gains(Float64Array.from(finals));
  const discount = discounts(k);
  const dcg = (ranking: Uint32Array) =>
    discount.reduce((sum, each, rank) => sum + (rank < ranking.length ? each * gain[ranking[rank]!]! : 0), 0);
  const ideal = dcg(ranked(finals));
  return ideal > 0 ? Math.max(0, 1 - dcg(order) / ideal) : 0;
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
