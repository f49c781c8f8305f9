/**
 * Which order statistic of the calibration scores makes a guarantee: the whole of conformal calibration is one index.
 */
import { binomialPValue } from "./pvalues.js";

/**
 * PAC: with the j-th smallest (1-based) of n scores as threshold, P(a new score exceeds it) ≤ α with probability ≥
 * 1 − δ over the calibration draw. j = min { j : P(Bin(n, 1 − α) ≥ j) ≤ δ }; undefined if n is too small.
 */
export function pacIndex(n: number, alpha: number, delta: number): number | undefined {
  // P(Bin(n, 1 − α) ≥ j) = P(Bin(n, α) ≤ n − j): bisect for the most failures n − j that are still allowed.
  if (n < 1 || binomialPValue(0, n, alpha) > delta) return undefined;
  let allowed = 0;
  let refused = n;
  while (refused - allowed > 1) {
    const middle = (allowed + refused) >> 1;
    if (binomialPValue(middle, n, alpha) <= delta) allowed = middle;
    else refused = middle;
  }
  return n - allowed;
}

/**
 * Marginal: P(a new score exceeds the j-th smallest) ≤ α on average over calibration draws. j = ⌈(n + 1)(1 − α)⌉;
 * undefined if that is beyond n.
 */
export function marginalIndex(n: number, alpha: number): number | undefined {
  // Written with a floor of (n + 1)α, nudged, so that 0.9 · 10 cannot round its way to the next index.
  const j = n + 1 - Math.floor((n + 1) * alpha + 1e-9);
  return j > n ? undefined : j;
}

/** Fewest calibration queries with which a PAC guarantee exists at all: ⌈ln δ / ln(1 − α)⌉. */
export function queriesNeeded(alpha: number, delta: number): number {
  return Math.ceil(Math.log(delta) / Math.log1p(-alpha) - 1e-12);
}

/** Fewest calibration queries for the marginal guarantee: ⌈1/α⌉ − 1. */
export function queriesNeededMarginal(alpha: number): number {
  return Math.ceil(1 / alpha - 1e-9) - 1;
}
