/**
 * Is a difference between two runs real? Paired tests over queries.
 */
import { MatryoshkaError } from "../errors.js";
import { Random } from "./random.js";
import { regularizedBeta } from "./special.js";

export interface PairedComparison {
  /** Queries. */
  readonly n: number;
  /** Mean of a − b. */
  readonly difference: number;
  /** Percentile interval of the mean difference, from resampled queries. */
  readonly interval: readonly [low: number, high: number];
  /** Two-sided p-value of the sign-flipping (randomisation) test: exchangeable under "the runs do not differ". */
  readonly randomisationP: number;
  /** Two-sided p-value of Student's paired t-test; NaN if all differences are equal and not zero, 1 if all are zero. */
  readonly tTestP: number;
}

export interface PairedOptions {
  /** Defaults to 10,000. */
  readonly resamples?: number;
  /** Coverage of `interval`. Defaults to 0.95. */
  readonly confidence?: number;
  /** Defaults to 1; equal seeds give equal results. */
  readonly seed?: number | string;
}

/** Compares per-query values of two runs over the same queries, in the same order. Throws `ERR_INVALID_ARGUMENT`. */
export function pairedComparison(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  { resamples = 10_000, confidence = 0.95, seed = 1 }: PairedOptions = {},
): PairedComparison {
  if (a.length !== b.length || a.length === 0) {
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected two runs over the same queries, at least one, got ${a.length} and ${b.length} values`,
    );
  }
  const n = a.length;
  const differences = Float64Array.from({ length: n }, (_, i) => a[i]! - b[i]!);
  const difference = differences.reduce((sum, x) => sum + x, 0) / n;
  const random = new Random(seed);
  const means = new Float64Array(resamples);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += differences[random.integer(n)]!;
    means[r] = sum / n;
  }
  means.sort();
  const tail = (1 - confidence) / 2;
  const at = (share: number): number =>
    means[Math.min(resamples - 1, Math.max(0, Math.round(share * (resamples - 1))))]!;
  let extreme = 0;
  const bound = Math.abs(difference) * n * (1 - 1e-12);
  for (let r = 0; r < resamples; r++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += random.uniform() < 0.5 ? differences[i]! : -differences[i]!;
    if (Math.abs(sum) >= bound) extreme++;
  }
  return {
    n,
    difference,
    interval: [at(tail), at(1 - tail)],
    // The observed labelling is one of the equally likely ones, hence the added 1: without it the test is not valid.
    randomisationP: (extreme + 1) / (resamples + 1),
    tTestP: pairedTTest(differences),
  };
}

function pairedTTest(differences: Float64Array): number {
  const n = differences.length;
  const mean = differences.reduce((sum, x) => sum + x, 0) / n;
  let squares = 0;
  for (const x of differences) squares += (x - mean) ** 2;
  if (squares === 0) return mean === 0 ? 1 : Number.NaN;
  const degrees = n - 1;
  const t2 = (mean * mean * n * degrees) / squares;
  // P(|T| > t) = I_x(degrees / 2, 1 / 2) with x = degrees / (degrees + t²).
  return regularizedBeta(degrees / (degrees + t2), degrees / 2, 0.5);
}
