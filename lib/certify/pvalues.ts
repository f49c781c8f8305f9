/**
 * p-values of "the risk is above ε" that are valid at every sample size: small ones allow to reject, i.e. to certify.
 *
 * Sources: exact binomial as in Learn then Test (Angelopoulos et al. 2021); betting from Waudby-Smith & Ramdas 2020.
 */

/** ln P(Bin(n, p) ≤ k). In log space, because (1 − p)^n underflows long before k does. */
export function logBinomialCdf(k: number, n: number, p: number): number {
  if (k >= n) return 0;
  if (k < 0) return Number.NEGATIVE_INFINITY;
  if (p <= 0) return 0;
  if (p >= 1) return Number.NEGATIVE_INFINITY;
  const odds = Math.log(p) - Math.log1p(-p);
  let term = n * Math.log1p(-p);
  let max = term;
  const terms = [term];
  for (let i = 1; i <= k; i++) {
    term += Math.log((n - i + 1) / i) + odds;
    terms.push(term);
    if (term > max) max = term;
  }
  let sum = 0;
  for (const each of terms) sum += Math.exp(each - max);
  return Math.min(0, max + Math.log(sum));
}

/** For losses in {0, 1}: P(Bin(n, ε) ≤ failures). */
export function binomialPValue(failures: number, n: number, epsilon: number): number {
  return Math.exp(logBinomialCdf(failures, n, epsilon));
}

/**
 * For any losses ≤ 1, negative ones included (signed drops of a metric): the betting p-value exp(−max_t K_t). The order
 * of `losses` must be fixed without looking at them; `delta` only tunes the bets.
 */
export function bettingPValue(losses: ArrayLike<number>, epsilon: number, delta = 0.05): number {
  const n = losses.length;
  let wealth = 0;
  let best = 0;
  let sum = 0;
  let squares = 0.25;
  let variance = 0.25;
  for (let t = 1; t <= n; t++) {
    const x = losses[t - 1]!;
    const bet = Math.min(0.97 / (1 - epsilon), Math.sqrt((2 * Math.log(1 / delta)) / (n * variance)));
    wealth += Math.log1p(-bet * (x - epsilon));
    best = Math.max(best, wealth);
    sum += x;
    squares += (x - (sum + 0.5) / (t + 1)) ** 2;
    variance = squares / (t + 1);
  }
  return Math.exp(-best);
}

/** Candidates of `meanBound`, from the largest down, each 2 % below the one before. */
const BOUNDS = Array.from({ length: 400 }, (_, i) => 1.02 ** -i);

/**
 * An upper bound of the mean of losses in [0, 1], with confidence 1 − δ: the smallest ε of a grid such that the betting test
 * rejects "the mean is above ε" there and everywhere above. The order of `losses` must be fixed without looking at them.
 */
export function meanBound(losses: ArrayLike<number>, delta: number): number {
  const missed = BOUNDS.findIndex((epsilon) => bettingPValue(losses, epsilon, delta) > delta);
  return missed === 0 ? 1 : BOUNDS[(missed < 0 ? BOUNDS.length : missed) - 1]!;
}
