/**
 * The top-k rule: a document stops once it is out of the top k by the calibrated margin.
 */
import { estimate, halfWidth, listSpread, lower, readsSpread, upper } from "./estimate.js";
import type { ExitHead, Stops, TopKRule } from "./rule.js";
import { kthLargest } from "./select.js";
import type { ExitColumn } from "./trajectory.js";

/**
 * Decides for one list of m documents; `columns` are of each of the rule's exits. At every exit, among
 * the documents still running: if more than k are left, θ is the k-th largest lower end, and those with upper end < θ
 * stop. Documents tied with θ never stop, and neither do those with a score that is not finite.
 */
export function topK(rule: TopKRule, columns: readonly ExitColumn[], m: number): Stops {
  const exit = new Int8Array(m).fill(-1);
  const stopped = new Float32Array(m);
  const { estimates, widths } = intervals(rule.exits, columns, m);
  let alive = Uint32Array.from({ length: m }, (_, d) => d);
  const low = new Float32Array(m);
  for (let j = 0; j < rule.exits.length && alive.length > rule.k; j++) {
    const a = estimates[j]!;
    const c = widths[j]!;
    for (let i = 0; i < alive.length; i++) low[i] = lower(a[alive[i]!]!, c[alive[i]!]!, rule.scale);
    const threshold = kthLargest(low, alive.length, rule.k);
    alive = alive.filter((d) => {
      if (!(upper(a[d]!, c[d]!, rule.scale) < threshold)) return true;
      exit[d] = j;
      stopped[d] = a[d]!;
      return false;
    });
  }
  return { exit, estimate: stopped };
}

/**
 * Estimates and half-widths per unit of scale, [exits][m]; a width is ∞ where nobody may stop. They depend on a document's
 * own scores, and on its list's at exits where all of it runs: never on who has stopped.
 */
export function intervals(
  exits: readonly ExitHead[],
  columns: readonly ExitColumn[],
  m: number,
): { estimates: Float32Array[]; widths: Float32Array[] } {
  const estimates: Float32Array[] = [];
  const widths: Float32Array[] = [];
  const measured = readsSpread(exits);
  let g = 0;
  exits.forEach((head, j) => {
    const previous = estimates[j - 1];
    const { scores, units } = columns[j]!;
    const a = Float32Array.from({ length: m }, (_, d) => estimate(head, scores[d]!));
    if (measured && j === 1) g = listSpread(previous!, a);
    const width = (d: number) =>
      measured && !previous
        ? Number.POSITIVE_INFINITY
        : halfWidth(head, previous ? Math.abs(Math.fround(a[d]! - previous[d]!)) : 0, units?.[d], g);
    estimates.push(a);
    widths.push(Float32Array.from({ length: m }, (_, d) => width(d)));
  });
  return { estimates, widths };
}
