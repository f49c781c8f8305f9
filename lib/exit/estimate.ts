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

/** c = (width · unit) + (trend · change), with change = |a − a at the previous exit|, 0 at the first. */
export function halfWidth({ width, trend }: ExitHead, change: number, unit = 1): number {
  return f(f(f(width) * unit) + f(f(trend) * change));
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
