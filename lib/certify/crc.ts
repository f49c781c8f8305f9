/**
 * Conformal risk control for graded losses: recall of the true top k, and a bound on the drop of nDCG@k.
 *
 * Both losses are sums of weights of true top-k documents whose critical scale exceeds the rule's scale. They never
 * rise with the scale, are never below the true loss, and lie in [0, 1], which is what the method needs; the raw drop of
 * nDCG has none of these properties (Angelopoulos et al. 2022; early exit report §3.3).
 */
import { queriesNeeded } from "./order-statistic.js";
import { bettingPValue } from "./pvalues.js";

/** One query: critical scales of its true top-k documents (`documentScales`) and what losing each of them costs. */
export interface WeightedScales {
  /** [≤ k] */
  readonly scales: ArrayLike<number>;
  /** [≤ k] non-negative, with a sum ≤ 1. */
  readonly weights: ArrayLike<number>;
}

/** Recall: every lost document costs 1/k. */
export function recallWeights(count: number, k: number): Float64Array {
  return new Float64Array(count).fill(1 / k);
}

/**
 * nDCG@k: document of rank r costs gain_r / log2(r + 1) / IDCG. The drop cannot be more: documents behind a lost one move
 * up, and replacements add no negative gain. `ideal` is DCG@k of the best ranking over all judgements; 0 gives no loss.
 */
export function ndcgWeights(gains: ArrayLike<number>, ideal: number): Float64Array {
  return Float64Array.from(gains, (gain, r) => (ideal > 0 ? Math.max(0, gain) / Math.log2(r + 2) / ideal : 0));
}

/** Label-free proxy: as nDCG with equal gains. */
export function discountWeights(count: number, k: number): Float64Array {
  let total = 0;
  for (let r = 0; r < k; r++) total += 1 / Math.log2(r + 2);
  return Float64Array.from({ length: count }, (_, r) => 1 / Math.log2(r + 2) / total);
}

/**
 * Smallest scale t with (n R̂(t) + 1) / (n + 1) ≤ ε, where R̂ is the mean loss: then the expected loss of a new query is
 * ≤ ε, on average over calibration draws. Undefined if n < 1/ε − 1.
 */
export function crcScale(queries: readonly WeightedScales[], epsilon: number): number | undefined {
  const n = queries.length;
  return smallest(queries, (losses) => (losses.reduce((sum, loss) => sum + loss, 0) + 1) / (n + 1) <= epsilon);
}

/**
 * A scale whose risk is ≤ ε with probability ≥ 1 − δ over calibration draws (risk-controlling prediction sets, Bates et al.
 * 2021, with the betting bound: it knows how little losses vary, and costs .02 of compute less than Hoeffding–Bentkus's at
 * ε = .05 with 300 queries). Undefined if n is too small. The order of `queries` must not depend on their scores.
 */
export function rcpsScale(queries: readonly WeightedScales[], epsilon: number, delta: number): number | undefined {
  return smallest(queries, (losses) => bettingPValue(losses, epsilon, delta) <= delta);
}

/** Fewest queries with which `rcpsScale` finds a scale, if none of them loses anything; beyond a million, at least that many. */
export function queriesNeededForRisk(epsilon: number, delta: number): number {
  const suffices = (n: number) => bettingPValue(new Float64Array(n), epsilon, delta) <= delta;
  // No test can do with fewer, as all of them must guard against losses of all or nothing.
  const least = queriesNeeded(epsilon, delta);
  if (least > 1e6 || suffices(least)) return least;
  let [few, many] = [least, 2 * least];
  while (!suffices(many)) [few, many] = [many, 2 * many];
  while (many - few > 1) {
    const middle = (few + many) >> 1;
    if (suffices(middle)) many = middle;
    else few = middle;
  }
  return many;
}

/**
 * Walks the scale down from where nothing is lost to the last one before losses are no longer `safe`: tests in a fixed
 * sequence, which needs no correction for their number.
 */
function smallest(queries: readonly WeightedScales[], safe: (losses: Float64Array) => boolean): number | undefined {
  const losses = new Float64Array(queries.length);
  if (queries.length === 0 || !safe(losses)) return undefined;
  const steps = queries.flatMap(({ scales, weights }, query) =>
    Array.from(scales, (scale, i) => ({ scale, query, weight: weights[i]! })),
  );
  steps.sort((a, b) => b.scale - a.scale);
  for (let i = 0; i < steps.length; ) {
    // At scales below this one, all documents that share it are lost together.
    const { scale } = steps[i]!;
    for (; i < steps.length && steps[i]!.scale === scale; i++) losses[steps[i]!.query]! += steps[i]!.weight;
    if (!safe(losses)) return scale;
  }
  return 0;
}
