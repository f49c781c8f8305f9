/**
 * The float32 arithmetic of an exit decision, operation by operation, so that replay and device decide alike.
 *
 * Every step is one IEEE-754 binary32 operation rounded to nearest even, in the order written, without fused
 * multiply-add (native/engine/exit_rule.h, compiled with -ffp-contract=off). Documents whose estimate or width is not
 * finite never stop.
 */
import type { Compensation, ExitHead } from "./rule.js";

const f = Math.fround;

/** a = (slope · s) + offset. */
export function estimate({ slope, offset }: Compensation, score: number): number {
  return f(f(f(slope) * score) + f(offset));
}

/**
 * c = ((width · unit) + (trend · change)) + (spread · g), with change = |a − a at the previous exit|, 0 at the first, and g
 * the list's spread.
 */
export function halfWidth({ width, trend, spread = 0 }: ExitHead, change: number, unit = 1, g = 0): number {
  return f(f(f(f(width) * unit) + f(f(trend) * change)) + f(f(spread) * g));
}

/** Does the rule read the list's spread? Then its first exit only measures. */
export function readsSpread(exits: readonly ExitHead[]): boolean {
  return exits.some(({ spread = 0 }) => spread > 0);
}

/** g: largest less smallest change between two exits' estimates, over the documents where it is finite; 0 if none is. */
export function listSpread(from: Float32Array, to: Float32Array): number {
  let [least, most] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let d = 0; d < from.length; d++) {
    const change = f(to[d]! - from[d]!);
    if (!Number.isFinite(change)) continue;
    least = Math.min(least, change);
    most = Math.max(most, change);
  }
  return most >= least ? f(most - least) : 0;
}

/** a + (scale · c), or +∞ where the document must not stop. */
export function upper(a: number, c: number, scale: number): number {
  const half = f(f(scale) * c);
  return Number.isFinite(a) && Number.isFinite(half) ? f(a + half) : Number.POSITIVE_INFINITY;
}

/** a − (scale · c), or −∞ where the document must not stop. */
export function lower(a: number, c: number, scale: number): number {
  const half = f(f(scale) * c);
  return Number.isFinite(a) && Number.isFinite(half) ? f(a - half) : Number.NEGATIVE_INFINITY;
}
