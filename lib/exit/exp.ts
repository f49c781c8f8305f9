/**
 * exp() whose every bit is defined: libraries differ in the last place, and a decision must not.
 */

const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;

/**
 * e^x for x ≤ 0 in double precision, within 2e-15 relative: x = n ln 2 + r, then the Taylor polynomial of degree 13 in r by
 * Horner's rule, then scaling by 2^n. Multiplications and additions are separate, in the order written; below −700 it
 * is 0. A C++ mirror with the same constants and no contraction gives the same bits.
 */
export function expNonPositive(x: number): number {
  if (!(x >= -700)) return 0;
  const n = Math.floor(x * Math.LOG2E + 0.5);
  const r = x - n * LN2_HIGH - n * LN2_LOW;
  let p = 1;
  for (let i = 13; i >= 1; i--) p = 1 + (p * r) / i;
  return p * 2 ** n;
}

/**
 * [n] e^(rate · (x − max x)) of each value that is finite, 0 for the others, and their sum, added in their order; 0 if none is.
 */
export function expTerms(values: ArrayLike<number>, rate: number): { terms: Float64Array; sum: number } {
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) if (Number.isFinite(values[i]!)) max = Math.max(max, values[i]!);
  const terms = new Float64Array(values.length);
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i]!)) terms[i] = expNonPositive(rate * (values[i]! - max));
    sum += terms[i]!;
  }
  return { terms, sum };
}
