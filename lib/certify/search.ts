/**
 * Coordinate search on the TUNE split for the shape that makes the certified rule cheapest.
 *
 * A trial multiplies one exit's half-widths, shifts weight between their constant and their per-document part, or
 * switches the exit off. The objective is the compute left on TUNE at the scale that the same order statistic would
 * choose there. Choosing here costs no validity: CAL is never looked at.
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
const SWEEPS = 4;

/** One list with what a trial reads. */
interface Prepared {
  readonly m: number;
  /** [exits][m] */
  readonly estimates: Float32Array[];
  /** [exits + 1][m] share of the list's full-depth cost when stopping there; the last row is full depth. */
  readonly costs: Float64Array[];
  /** The true top k; empty if m ≤ k. */
  readonly top: Uint32Array;
}

export interface SearchResult {
  /** The exits that stay on. */
  readonly exits: readonly ExitHead[];
  /** Scale and mean compute fraction on TUNE: optimistic, because they were minimised. */
  readonly scale: number;
  readonly compute: number;
}

/**
 * Improves `exits` for top k at quantile `level`, the share of lists whose top k must survive (PAC index over n). The
 * first exit has no per-document part. Returns at least one exit.
 */
export function searchShape(
  tune: TrajectorySet,
  exits: readonly ExitHead[],
  k: number,
  level: number,
  cost: CostShape,
  kind: WidthKind,
): SearchResult {
  let current = [...exits];
  let lists = tune.lists.map((list) => prepare(list, tune.layers, current, k, cost));
  let rows = current.map((exit, j) => scaleRow(lists, exit, j, k));
  let best = { compute: Number.POSITIVE_INFINITY, scale: 0 };
  const assess = (trial: readonly ExitHead[], trialRows: readonly Float64Array[], on = lists): typeof best => {
    const scale = quantile(trialRows, on.length, level);
    return { scale, compute: meanCompute(on, trial, k, scale) };
  };
  best = assess(current, rows);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const before = best.compute;
    for (let j = current.length - 1; j >= 0; j--) {
      for (const proposal of proposals(current[j]!, kind === "document" ? typicalChange(lists, j) : 0)) {
        const row = scaleRow(lists, proposal, j, k);
        const trial = current.with(j, proposal);
        const trialRows = rows.with(j, row);
        const result = assess(trial, trialRows);
        if (result.compute < best.compute - 1e-6) [best, current, rows] = [result, trial, trialRows];
      }
      if (current.length === 1) continue;
      // Without exit j the next exit's change is measured from further back, so all is prepared anew.
      const fewer = current.filter((_, i) => i !== j);
      const fewerLists = tune.lists.map((list) => prepare(list, tune.layers, fewer, k, cost));
      const fewerRows = fewer.map((exit, i) => scaleRow(fewerLists, exit, i, k));
      const result = assess(fewer, fewerRows, fewerLists);
      if (result.compute < best.compute) [best, current, rows, lists] = [result, fewer, fewerRows, fewerLists];
    }
    if (before - best.compute < 2e-4) break;
  }
  return { exits: current, ...best };
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
  const full = fullFlops(cost, list.tokens);
  const costs = [...exits.map(({ layer }) => layer), cost.layers].map((layer) =>
    Float64Array.from(list.tokens, (n) => stopFlops(cost, n, layer) / full),
  );
  const final = column(list, layers.length, layers.length - 1);
  return { m, estimates, costs, top: m > k ? ranked(final).slice(0, k) : new Uint32Array(0) };
}

function changeAt(list: Prepared, j: number, d: number): number {
  return j === 0 ? 0 : Math.abs(list.estimates[j]![d]! - list.estimates[j - 1]![d]!);
}

function typicalChange(lists: readonly Prepared[], j: number): number {
  let sum = 0;
  let n = 0;
  for (const list of lists) {
    for (let d = 0; d < list.m; d++) {
      const change = changeAt(list, j, d);
      if (!Number.isFinite(change)) continue;
      sum += change;
      n++;
    }
  }
  return n > 0 ? sum / n : 0;
}

function* proposals(exit: ExitHead, change: number): Generator<ExitHead> {
  for (const factor of FACTORS) yield { ...exit, width: exit.width * factor, trend: exit.trend * factor };
  if (!(change > 0)) return;
  const typical = exit.width + exit.trend * change;
  for (const share of SHARES) yield { ...exit, width: typical * (1 - share), trend: (typical * share) / change };
}

/** [lists] largest critical scale of each list at exit j (see critical-scale.ts), in doubles. */
function scaleRow(lists: readonly Prepared[], exit: ExitHead, j: number, k: number): Float64Array {
  return Float64Array.from(lists, (list) => {
    const a = list.estimates[j]!;
    const c = Float64Array.from(a, (_, d) => exit.width + exit.trend * changeAt(list, j, d));
    const ratios = new Float64Array(list.m);
    let max = 0;
    for (const d of list.top) {
      let n = 0;
      for (let other = 0; other < list.m; other++) {
        const ratio = (a[other]! - a[d]!) / (c[other]! + c[d]!);
        if (ratio > max) ratios[n++] = ratio;
      }
      if (n >= k) max = kthLargest(ratios, n, k);
    }
    return max;
  });
}

/** Scale that keeps the top k of a share `level` of the lists. */
function quantile(rows: readonly Float64Array[], n: number, level: number): number {
  const scales = new Float64Array(n);
  for (const row of rows) for (let q = 0; q < n; q++) scales[q] = Math.max(scales[q]!, row[q]!);
  return scales.sort()[Math.min(n, Math.max(1, Math.ceil(level * n - 1e-9))) - 1]!;
}

function meanCompute(lists: readonly Prepared[], exits: readonly ExitHead[], k: number, scale: number): number {
  let total = 0;
  const size = Math.max(0, ...lists.map(({ m }) => m));
  const alive = new Uint32Array(size);
  const low = new Float64Array(size);
  for (const list of lists) {
    let n = list.m;
    for (let d = 0; d < n; d++) alive[d] = d;
    for (let j = 0; j < exits.length && n > k; j++) {
      const a = list.estimates[j]!;
      const { width, trend } = exits[j]!;
      const half = (d: number): number => scale * (width + trend * changeAt(list, j, d));
      for (let i = 0; i < n; i++) {
        const value = a[alive[i]!]! - half(alive[i]!);
        low[i] = Number.isFinite(value) ? value : Number.NEGATIVE_INFINITY;
      }
      const threshold = kthLargest(low, n, k);
      let kept = 0;
      for (let i = 0; i < n; i++) {
        const d = alive[i]!;
        if (a[d]! + half(d) < threshold) total += list.costs[j]![d]!;
        else alive[kept++] = d;
      }
      n = kept;
    }
    const full = list.costs[exits.length]!;
    for (let i = 0; i < n; i++) total += full[alive[i]!]!;
  }
  return total / lists.length;
}
