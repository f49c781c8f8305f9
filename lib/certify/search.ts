/**
 * Coordinate search on the TUNE split for the shape that makes the certified rule cheapest.
 *
 * A trial multiplies one exit's half-widths, shifts weight between their constant and their per-document part, or
 * removes the exit. The objective is the compute left on TUNE at scales that lose the top k of α/2, α, 2α and 4α of its
 * lists: at α alone a handful of lists decide, and the search would fit those. Choosing here costs no validity: CAL is
 * never looked at.
 */
import { type CostShape, fullFlops, stopFlops } from "../exit/cost.js";
import { exitColumns } from "../exit/replay.js";
import type { ExitHead } from "../exit/rule.js";
import { kthLargest } from "../exit/select.js";
import { intervals } from "../exit/top-k.js";
import { column, ranked, type Trajectory, type TrajectorySet } from "../exit/trajectory.js";
import type { WidthKind } from "./widths.js";

const FACTORS = [0.5, 0.7, 0.85, 1.2, 1.5, 2];
/** Share of an exit's typical half-width that is per document. */
const SHARES = [0, 0.25, 0.5, 0.75, 0.95];
const RISKS = [0.5, 1, 2, 4];
const SWEEPS = 4;
/** Least gain in mean compute that a change must bring; smaller ones are noise. */
const WORTH = 5e-4;

/** One list with what a trial reads. */
interface Prepared {
  readonly m: number;
  /** [exits][m], and how far each estimate moved since the exit before: 0 at the first. */
  readonly estimates: readonly Float32Array[];
  readonly changes: readonly Float64Array[];
  /** [exits + 1][m] share of the list's full-depth cost when stopping there; the last row is full depth. */
  readonly costs: readonly Float64Array[];
  /** The true top k; empty if m ≤ k. */
  readonly top: Uint32Array;
}

/** An exit's shape with what follows from it: half-widths [lists][m] and each list's largest critical scale [lists]. */
interface Shaped {
  readonly head: ExitHead;
  readonly widths: readonly Float64Array[];
  readonly scales: Float64Array;
}

/**
 * Improves `exits` for the top k at risk α. `"layer"` keeps the widths' shape and only rescales them. Returns at least
 * one exit; with nothing to tune on, `exits` as they are.
 */
export function searchShape(
  tune: TrajectorySet,
  exits: readonly ExitHead[],
  k: number,
  alpha: number,
  cost: CostShape,
  kind: WidthKind,
): ExitHead[] {
  if (tune.lists.length === 0) return [...exits];
  const prepareAll = (heads: readonly ExitHead[]): Prepared[] =>
    tune.lists.map((list) => prepare(list, tune.layers, heads, k, cost));
  let lists = prepareAll(exits);
  let current = exits.map((head, j) => shape(lists, head, j, k));
  let best = objective(lists, current, k, alpha);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const before = best;
    for (let j = current.length - 1; j >= 0; j--) {
      for (const proposal of proposals(current[j]!.head, kind === "document" ? typicalChange(lists, j) : 0)) {
        const trial = current.with(j, shape(lists, proposal, j, k));
        const compute = objective(lists, trial, k, alpha);
        if (compute < best - WORTH) [best, current] = [compute, trial];
      }
      if (current.length === 1) continue;
      // Without exit j the next exit's change is measured from further back, so all is prepared anew.
      const fewer = current.filter((_, i) => i !== j).map(({ head }) => head);
      const fewerLists = prepareAll(fewer);
      const trial = fewer.map((head, i) => shape(fewerLists, head, i, k));
      const compute = objective(fewerLists, trial, k, alpha);
      if (compute <= best) [best, current, lists] = [compute, trial, fewerLists];
    }
    if (before - best < WORTH) break;
  }
  return current.map(({ head }) => ({ ...head, width: Math.fround(head.width), trend: Math.fround(head.trend) }));
}

function prepare(
  list: Trajectory,
  layers: readonly number[],
  exits: readonly ExitHead[],
  k: number,
  cost: CostShape,
): Prepared {
  const m = list.documents.length;
  const scores = exitColumns(layers, exits).map((each) => column(list, layers.length, each));
  const { estimates } = intervals(exits, scores, m);
  const changes = estimates.map((a, j) =>
    Float64Array.from(a, (value, d) => (j === 0 ? 0 : Math.abs(value - estimates[j - 1]![d]!))),
  );
  const full = fullFlops(cost, list.tokens);
  const costs = [...exits.map(({ layer }) => layer), cost.layers].map((layer) =>
    Float64Array.from(list.tokens, (n) => stopFlops(cost, n, layer) / full),
  );
  const final = column(list, layers.length, layers.length - 1);
  return { m, estimates, changes, costs, top: m > k ? ranked(final).slice(0, k) : new Uint32Array(0) };
}

function* proposals(exit: ExitHead, change: number): Generator<ExitHead> {
  for (const factor of FACTORS) yield { ...exit, width: exit.width * factor, trend: exit.trend * factor };
  if (!(change > 0)) return;
  const typical = exit.width + exit.trend * change;
  for (const share of SHARES) yield { ...exit, width: typical * (1 - share), trend: (typical * share) / change };
}

function typicalChange(lists: readonly Prepared[], j: number): number {
  let sum = 0;
  let n = 0;
  for (const { changes } of lists) {
    for (const change of changes[j]!) {
      if (!Number.isFinite(change)) continue;
      sum += change;
      n++;
    }
  }
  return n > 0 ? sum / n : 0;
}

/** Half-widths and critical scales (see critical-scale.ts) of exit j under this shape, in doubles. */
function shape(lists: readonly Prepared[], head: ExitHead, j: number, k: number): Shaped {
  const widths = lists.map(({ changes }) => changes[j]!.map((change) => head.width + head.trend * change));
  const ratios = new Float64Array(Math.max(0, ...lists.map(({ m }) => m)));
  const scales = Float64Array.from(lists, ({ m, estimates, top }, q) => {
    const a = estimates[j]!;
    const c = widths[q]!;
    let max = 0;
    for (const d of top) {
      let n = 0;
      for (let other = 0; other < m; other++) {
        const ratio = (a[other]! - a[d]!) / (c[other]! + c[d]!);
        if (ratio > max) ratios[n++] = ratio;
      }
      if (n >= k) max = kthLargest(ratios, n, k);
    }
    return max;
  });
  return { head, widths, scales };
}

/** Mean compute over the scales that lose each of the RISKS. */
function objective(lists: readonly Prepared[], exits: readonly Shaped[], k: number, alpha: number): number {
  const scales = Float64Array.from(lists, (_, q) =>
    exits.reduce((max, each) => Math.max(max, each.scales[q]!), 0),
  ).sort();
  const at = (risk: number): number => scales[Math.max(0, Math.ceil(lists.length * (1 - risk)) - 1)]!;
  return (
    RISKS.reduce((sum, share) => sum + meanCompute(lists, exits, k, at(Math.min(0.9, share * alpha))), 0) / RISKS.length
  );
}

/** The top-k rule in doubles: what is compared here is only ever the cost. */
function meanCompute(lists: readonly Prepared[], exits: readonly Shaped[], k: number, scale: number): number {
  const size = Math.max(0, ...lists.map(({ m }) => m));
  const alive = new Uint32Array(size);
  const low = new Float64Array(size);
  let total = 0;
  for (let q = 0; q < lists.length; q++) {
    const { m, estimates, costs } = lists[q]!;
    let n = m;
    for (let d = 0; d < n; d++) alive[d] = d;
    for (let j = 0; j < exits.length && n > k; j++) {
      const a = estimates[j]!;
      const c = exits[j]!.widths[q]!;
      for (let i = 0; i < n; i++) {
        const value = a[alive[i]!]! - scale * c[alive[i]!]!;
        low[i] = Number.isFinite(value) ? value : Number.NEGATIVE_INFINITY;
      }
      const threshold = kthLargest(low, n, k);
      const cost = costs[j]!;
      let kept = 0;
      for (let i = 0; i < n; i++) {
        const d = alive[i]!;
        if (a[d]! + scale * c[d]! < threshold) total += cost[d]!;
        else alive[kept++] = d;
      }
      n = kept;
    }
    const full = costs[exits.length]!;
    for (let i = 0; i < n; i++) total += full[alive[i]!]!;
  }
  return total / lists.length;
}
