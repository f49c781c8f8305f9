/**
 * The critical scale of a list: the smallest scale at which the top-k rule provably keeps every document of the true
 * top k, in closed form and for several k at once.
 *
 * For d in T_k and exit j, ρ_j(d', d) = (a_j(d') − a_j(d)) / (c_j(d') + c_j(d)) over all other documents d'; τ_j(d) is the
 * k-th largest ρ_j, or 0 if that is negative; τ(d) = max_j τ_j(d); t = max_d τ(d). At any scale ≥ τ(d) document d is never
 * stopped: that takes k running documents with ρ_j > scale, and fewer than k of the whole list have that. It holds
 * document by document, whatever happens to the others, so t ≥ t_q leaves set, order and scores of the top k untouched.
 * This needs a_j(d) and c_j(d) to be the same whoever has stopped: they depend on document d, and on exits where the whole
 * list runs.
 *
 * Scales are float32 and the claim holds for the float32 arithmetic of estimate.ts, not just for real numbers: `upper`
 * never falls and `lower` never rises as the scale grows, rounding included, so "fewer than k" once true stays true. The
 * closed form gives the place, `raise` steps up to the first float that the rounded test accepts.
 */
import { lower, upper } from "../exit/estimate.js";
import { exitColumns } from "../exit/replay.js";
import type { ExitHead } from "../exit/rule.js";
import { kthLargest } from "../exit/select.js";
import { intervals } from "../exit/top-k.js";
import { column, exitColumn, ranked, type Trajectory } from "../exit/trajectory.js";

const f = Math.fround;

/**
 * τ_j(d) at one exit: smallest float32 scale at which fewer than k documents have their lower end above d's upper end.
 * `scratch` holds [m] doubles.
 */
export function criticalAt(a: Float32Array, c: Float32Array, d: number, k: number, scratch: Float64Array): number {
  const center = a[d]!;
  const own = c[d]!;
  if (!Number.isFinite(center) || !Number.isFinite(own)) return 0;
  let n = 0;
  for (let other = 0; other < a.length; other++) {
    if (other === d || !Number.isFinite(a[other]!) || !Number.isFinite(c[other]!)) continue;
    const gap = a[other]! - center;
    if (gap > 0) scratch[n++] = gap / (c[other]! + own);
  }
  return n < k ? 0 : raise(a, c, d, k, kthLargest(scratch, n, k));
}

/** The closed form in doubles is within rounding of the answer; the loop ends after a step or two. */
function raise(a: Float32Array, c: Float32Array, d: number, k: number, closedForm: number): number {
  if (!Number.isFinite(closedForm)) return Number.POSITIVE_INFINITY;
  let scale = f(closedForm);
  for (let step = 2 ** -23; aheadAt(a, c, d, scale) >= k; step *= 2)
    scale = f(Math.max(scale * (1 + step), step * 1e-30));
  return scale;
}

/** Documents whose lower end is above d's upper end at this scale, in the arithmetic of the devices. */
function aheadAt(a: Float32Array, c: Float32Array, d: number, scale: number): number {
  const high = upper(a[d]!, c[d]!, scale);
  let ahead = 0;
  for (let other = 0; other < a.length; other++) if (lower(a[other]!, c[other]!, scale) > high) ahead++;
  return ahead;
}

/** τ(d) of the documents of one list's true top k, best first: [min(k, m)] float32 scales. All 0 if m ≤ k. */
export function documentScales(
  exits: readonly ExitHead[],
  list: Trajectory,
  layers: readonly number[],
  ks: readonly number[],
): Map<number, Float32Array> {
  const m = list.documents.length;
  const columns = exitColumns(layers, exits);
  const { estimates, widths } = intervals(
    exits,
    columns.map((each) => exitColumn(list, layers.length, each)),
    m,
  );
  const order = ranked(column(list, layers.length, layers.length - 1));
  const scratch = new Float64Array(m);
  return new Map(
    ks.map((k) => {
      const scales = new Float32Array(Math.min(k, m));
      if (m > k) {
        for (let r = 0; r < scales.length; r++) {
          for (let j = 0; j < exits.length; j++) {
            scales[r] = Math.max(scales[r]!, criticalAt(estimates[j]!, widths[j]!, order[r]!, k, scratch));
          }
        }
      }
      return [k, scales];
    }),
  );
}

/** t of a list, from those of its true top k: at this scale it loses nobody. */
export function criticalScale(scales: ArrayLike<number>): number {
  return Array.from(scales).reduce((most, scale) => Math.max(most, scale), 0);
}
