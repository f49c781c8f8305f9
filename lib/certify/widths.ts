/**
 * Width shapes: how uncertain each exit's estimate is, per layer and per document, up to the one scale that calibration
 * sets. Any shape is safe; a good one saves compute.
 */
import { listSpread } from "../exit/estimate.js";
import { exitColumns } from "../exit/replay.js";
import type { Compensation, ExitHead } from "../exit/rule.js";
import { intervals } from "../exit/top-k.js";
import { column, exitColumn, type TrajectorySet } from "../exit/trajectory.js";

/**
 * `"layer"`: one width a layer. `"document"`: also grows with how much the estimate moved since the previous exit. `"list"`:
 * all that, and about half of it is a multiple of how much the list's estimates part between the first two exits.
 */
export type WidthKind = "layer" | "document" | "list";

/**
 * Share of a typical half-width that is the list's spread, under `"list"`. It buys little on queries like those of TRAIN, and
 * so nothing there could choose it; it is what lets a scale hold on others, whose residuals are larger or smaller as a whole.
 */
const SPREAD_SHARE = 0.45;

/** Constant scores have residual 0, and a width must not be 0. */
const SMALLEST = 1e-6;

/** The same half-widths, on average over `train`, with the list's spread for a share of each. */
export function withSpread(train: TrajectorySet, exits: readonly ExitHead[]): ExitHead[] {
  const typical = typicalSpread(train, exits);
  if (!(typical > 0)) return [...exits];
  const columns = exitColumns(train.layers, exits);
  const sums = exits.map(() => ({ n: 0, c: 0 }));
  for (const list of train.lists) {
    const m = list.documents.length;
    const { widths } = intervals(
      exits,
      columns.map((each) => exitColumn(list, train.layers.length, each)),
      m,
    );
    widths.forEach((c, j) => {
      for (const each of c.filter(Number.isFinite)) {
        sums[j]!.n++;
        sums[j]!.c += each;
      }
    });
  }
  return exits.map((exit, j) => ({
    ...exit,
    width: Math.fround(exit.width * (1 - SPREAD_SHARE)),
    trend: Math.fround(exit.trend * (1 - SPREAD_SHARE)),
    spread: Math.fround((SPREAD_SHARE * sums[j]!.c) / Math.max(1, sums[j]!.n) / typical),
  }));
}

/** Mean over lists of their spread between the first two of these exits; 0 where there is one. */
export function typicalSpread({ layers, lists }: TrajectorySet, exits: readonly ExitHead[]): number {
  if (exits.length < 2) return 0;
  const columns = exitColumns(layers, exits.slice(0, 2));
  let sum = 0;
  for (const list of lists) {
    const inputs = columns.map((each) => exitColumn(list, layers.length, each));
    const { estimates } = intervals(exits.slice(0, 2), inputs, list.documents.length);
    sum += listSpread(estimates[0]!, estimates[1]!);
  }
  return lists.length > 0 ? sum / lists.length : 0;
}

/**
 * Shapes from TRAIN. `"layer"`: the pooled deviation of residuals s − a_j around their mean over the list (what all
 * documents of a query share cannot change their order). `"document"`: |residual| ≈ width + trend · change by least
 * squares, both kept from going negative. Where exits come with units, both sides are divided by them.
 */
export function fitWidths(
  train: TrajectorySet,
  layers: readonly number[],
  heads: readonly Compensation[],
  kind: Exclude<WidthKind, "list">,
): ExitHead[] {
  const exits = heads.map((head, j): ExitHead => ({ ...head, layer: layers[j]!, width: 1, trend: 0 }));
  const columns = exitColumns(train.layers, exits);
  const sums = exits.map(() => ({ n: 0, r: 0, rr: 0, x: 0, xx: 0, rx: 0 }));
  for (const list of train.lists) {
    const m = list.documents.length;
    const inputs = columns.map((each) => exitColumn(list, train.layers.length, each));
    const { estimates } = intervals(exits, inputs, m);
    const final = column(list, train.layers.length, train.layers.length - 1);
    estimates.forEach((a, j) => {
      const residual = Float64Array.from(a, (value, d) => final[d]! - value);
      const finite = residual.filter(Number.isFinite);
      const center = finite.reduce((total, r) => total + r, 0) / finite.length;
      const previous = estimates[j - 1];
      const sum = sums[j]!;
      for (let d = 0; d < m; d++) {
        const unit = inputs[j]!.units?.[d] ?? 1;
        const r = Math.abs(residual[d]! - center) / unit;
        const x = previous ? Math.abs(a[d]! - previous[d]!) / unit : 0;
        if (!Number.isFinite(r) || !Number.isFinite(x)) continue;
        sum.n++;
        sum.r += r;
        sum.rr += r * r;
        sum.x += x;
        sum.xx += x * x;
        sum.rx += r * x;
      }
    });
  }
  return exits.map((exit, j) => {
    const { n, r, rr, x, xx, rx } = sums[j]!;
    const positive = (value: number): number => Math.fround(Math.max(SMALLEST, value));
    const spread = xx - (x * x) / n;
    if (kind === "layer" || j === 0 || !(spread > 0))
      return { ...exit, width: positive(Math.sqrt(rr / Math.max(1, n))) };
    const trend = Math.max(0, (rx - (r * x) / n) / spread);
    const width = (r - trend * x) / n;
    if (width > 0) return { ...exit, width: positive(width), trend: Math.fround(trend) };
    return { ...exit, width: positive(0), trend: Math.fround(rx / xx) };
  });
}
