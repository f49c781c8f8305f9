/**
 * Coordinate search on the TUNE split for the shape that makes the certified rule cheapest.
 *
 * A trial multiplies one exit's half-widths, shifts weight between their constant and their per-document part, or
 * removes the exit. Every peek has its price, so an exit where hardly anybody stops goes. It is kept if less compute is left on both halves of TUNE, each at its own scales; and at scales that
 * lose the top k of α/2 to 8α of the lists, because at α alone a handful of lists decide, and the search would fit those.
 * Choosing here costs no validity: CAL is never looked at.
 */
import { type CostShape, fullFlops, stopFlops } from "../exit/cost.js";
import { listSpread, readsSpread } from "../exit/estimate.js";
import { exitColumns } from "../exit/replay.js";
import type { ExitHead } from "../exit/rule.js";
import { kthLargest } from "../exit/select.js";
import { intervals } from "../exit/top-k.js";
import { column, exitColumn, ranked, type Trajectory, type TrajectorySet } from "../exit/trajectory.js";
import type { WidthKind } from "./widths.js";

const FACTORS = [0.5, 0.7, 0.85, 1.2, 1.5, 2];
/** Share of an exit's typical half-width that is per document. */
const SHARES = [0, 0.25, 0.5, 0.75, 0.95];
const RISKS = [0.5, 1, 2, 4, 8];
const SWEEPS = 4;
/**
 * What a peek takes beyond its operations, as a share of a running document's full depth: its scoring rows are too few
 * to keep the machine busy. 2.4 % for eight exits of 12 layers × 384, where nobody stops (docs/benchmarks.md).
 */
const PEEK = 0.003;
/** Least gain in compute that a change must bring on each half; smaller ones are noise. */
const WORTH = 5e-4;

/** One list with what a trial reads. */
interface Prepared {
  readonly m: number;
  /** [exits][m], and how far each estimate moved since the exit before: 0 at the first. */
  readonly estimates: readonly Float32Array[];
  readonly changes: readonly Float64Array[];
  /** The list's spread between the first two exits. */
  readonly spread: number;
  /** [exits][m], left out where all are 1. */
  readonly units: readonly (Float32Array | undefined)[];
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

interface State {
  readonly lists: readonly Prepared[];
  readonly exits: readonly Shaped[];
  /** On each half of the lists. */
  readonly compute: readonly [number, number];
}

/**
 * Starts from the cheapest of `starts` and improves it for the top k at risk α. `"layer"` only rescales widths, the others
 * also trade their constant for their per-document part; none touches the list's share, which pays elsewhere (see
 * widths.ts). Returns at least one exit; with nothing to tune on, the first of `starts`.
 */
export function searchShape(
  tune: TrajectorySet,
  starts: readonly (readonly ExitHead[])[],
  k: number,
  alpha: number,
  cost: CostShape,
  kind: WidthKind,
): ExitHead[] {
  if (tune.lists.length === 0) return [...starts[0]!];
  /** `spread`: what the lists' was on average for the exits that the heads were made for. */
  const begin = (heads: readonly ExitHead[], spread?: number): State => {
    const lists = tune.lists.map((list) => prepare(list, tune.layers, heads, k, cost));
    const now = meanSpread(lists);
    const factor = spread !== undefined && now > 0 ? spread / now : 1;
    const adapted = heads.map((head) => (head.spread ? { ...head, spread: head.spread * factor } : head));
    const exits = adapted.map((_, j) => shape(lists, adapted, j, k));
    return { lists, exits, compute: objective(lists, exits, k, alpha) };
  };
  let best = starts.map((heads) => begin(heads)).reduce((a, b) => (total(b) < total(a) ? b : a));
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const before = best;
    for (let j = best.exits.length - 1; j >= 0; j--) {
      for (const proposal of proposals(best.exits[j]!.head, kind === "layer" ? 0 : typicalChange(best.lists, j))) {
        const heads = best.exits.map(({ head }) => head).with(j, proposal);
        const exits = best.exits.with(j, shape(best.lists, heads, j, k));
        const trial = { ...best, exits, compute: objective(best.lists, exits, k, alpha) };
        if (better(trial, best)) best = trial;
      }
      if (best.exits.length === 1) continue;
      // Without exit j the next exit's change, and the list's spread, are measured from elsewhere, so all is prepared anew.
      const rest = best.exits.filter((_, i) => i !== j).map(({ head }) => head);
      const fewer = begin(rest, meanSpread(best.lists));
      if (better(fewer, best)) best = fewer;
    }
    if (best === before) break;
  }
  return best.exits.map(({ head }) => ({
    ...head,
    ...{ width: Math.fround(head.width), trend: Math.fround(head.trend) },
    ...(head.spread !== undefined && { spread: Math.fround(head.spread) }),
  }));
}

function meanSpread(lists: readonly Prepared[]): number {
  return lists.reduce((sum, { spread }) => sum + spread, 0) / Math.max(1, lists.length);
}

function total({ compute: [a, b] }: State): number {
  return a + b;
}

function better({ compute: trial }: State, { compute: best }: State): boolean {
  return trial[0] < best[0] - WORTH && trial[1] < best[1] - WORTH;
}

function prepare(
  list: Trajectory,
  layers: readonly number[],
  exits: readonly ExitHead[],
  k: number,
  cost: CostShape,
): Prepared {
  const m = list.documents.length;
  const columns = exitColumns(layers, exits).map((each) => exitColumn(list, layers.length, each));
  const units = columns.map((each) => each.units);
  const { estimates } = intervals(exits, columns, m);
  const changes = estimates.map((a, j) =>
    Float64Array.from(a, (value, d) => (j === 0 ? 0 : Math.abs(value - estimates[j - 1]![d]!))),
  );
  const spread = estimates[1] ? listSpread(estimates[0]!, estimates[1]) : 0;
  const full = fullFlops(cost, list.tokens);
  const costs = [...exits.map(({ layer }) => layer), cost.layers].map((layer) =>
    Float64Array.from(list.tokens, (n) => stopFlops(cost, n, layer) / full),
  );
  const final = column(list, layers.length, layers.length - 1);
  return { m, estimates, changes, spread, units, costs, top: m > k ? ranked(final).slice(0, k) : new Uint32Array(0) };
}

function* proposals(exit: ExitHead, change: number): Generator<ExitHead> {
  const scaled = ({ width, trend, spread }: ExitHead, factor: number) => ({
    ...{ width: width * factor, trend: trend * factor },
    ...(spread !== undefined && { spread: spread * factor }),
  });
  for (const factor of FACTORS) yield { ...exit, ...scaled(exit, factor) };
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
function shape(lists: readonly Prepared[], heads: readonly ExitHead[], j: number, k: number): Shaped {
  const head = heads[j]!;
  const measures = j === 0 && readsSpread(heads);
  const widths = lists.map(({ changes, spread, units }) =>
    changes[j]!.map((change, d) =>
      measures
        ? Number.POSITIVE_INFINITY
        : head.width * (units[j]?.[d] ?? 1) + head.trend * change + (head.spread ?? 0) * spread,
    ),
  );
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

/** Compute of the two halves of the lists, each the mean over the scales that lose each of the RISKS there. */
function objective(lists: readonly Prepared[], exits: readonly Shaped[], k: number, alpha: number): [number, number] {
  const half = (parity: number): number => {
    const members = lists.map((_, q) => q).filter((q) => q % 2 === parity);
    const scales = Float64Array.from(members, (q) =>
      exits.reduce((max, each) => Math.max(max, each.scales[q]!), 0),
    ).sort();
    const at = (risk: number): number => scales[Math.max(0, Math.ceil(scales.length * (1 - risk)) - 1)] ?? 0;
    const compute = (share: number): number => meanCompute(lists, members, exits, k, at(Math.min(0.9, share * alpha)));
    return RISKS.reduce((sum, share) => sum + compute(share), 0) / RISKS.length;
  };
  return [half(0), half(1)];
}

/** The top-k rule in doubles: what is compared here is only ever the cost. */
function meanCompute(
  lists: readonly Prepared[],
  members: readonly number[],
  exits: readonly Shaped[],
  k: number,
  scale: number,
): number {
  const size = Math.max(0, ...lists.map(({ m }) => m));
  const alive = new Uint32Array(size);
  const low = new Float64Array(size);
  let total = 0;
  for (const q of members) {
    const { m, estimates, costs } = lists[q]!;
    const full = costs[exits.length]!;
    let n = m;
    for (let d = 0; d < n; d++) alive[d] = d;
    for (let j = 0; j < exits.length && n > k; j++) {
      const a = estimates[j]!;
      const c = exits[j]!.widths[q]!;
      for (let i = 0; i < n; i++) {
        total += PEEK * full[alive[i]!]!;
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
    for (let i = 0; i < n; i++) total += full[alive[i]!]!;
  }
  return total / Math.max(1, members.length);
}
