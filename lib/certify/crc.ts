/**
 * Conformal risk control for graded losses: recall of the true top k, and a bound on the drop of nDCG@k.
 *
 * Both losses are sums of weights of true top-k documents whose critical scale exceeds the rule's scale. They never
 * rise with the scale, are never below the true loss, and lie in [0, 1], which is what the method needs; the raw drop of
 * nDCG has none of these properties (Angelopoulos et al. 2022; early exit report §3.3).
 */
import { hoeffdingBentkusPValue } from "./pvalues.js";

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
  return smallest(queries, (risk) => (n * risk + 1) / (n + 1) <= epsilon);
}

/**
 * Smallest scale whose risk is ≤ ε with probability ≥ 1 − δ over calibration draws (risk-controlling prediction sets
 * with the Hoeffding–Bentkus bound). Undefined if n is too small.
 */
export function rcpsScale(queries: readonly WeightedScales[], epsilon: number, delta: number): number | undefined {
  const n = queries.length;
  return smallest(queries, (risk) => hoeffdingBentkusPValue(risk, n, epsilon) <= delta);
}

/** Walks the scale down from where nothing is lost; `safe` must hold for all smaller risks where it holds for one. */
function smallest(queries: readonly WeightedScales[], safe: (risk: number) => boolean): number | undefined {
  const n = queries.length;
  if (n === 0 || !safe(0)) return undefined;
  const steps: { scale: number; weight: number }[] = [];
  for (const { scales, weights } of queries) {
    for (let i = 0; i < scales.length; i++) steps.push({ scale: scales[i]!, weight: weights[i]! });
  }
  steps.sort((a, b) => b.scale - a.scale);
  let lost = 0;
  for (let i = 0; i < steps.length; ) {
    // At scales below this one, all documents that share it are lost together.
    const { scale } = steps[i]!;
    for (; i < steps.length && steps[i]!.scale === scale; i++) lost += steps[i]!.weight;
    if (!safe(lost / n)) return scale;
  }
  return 0;
}
