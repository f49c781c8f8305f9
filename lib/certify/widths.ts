/**
 * Width shapes: how uncertain each exit's estimate is, per layer and per document, up to the one scale that calibration
 * sets. Any shape is safe; a good one saves compute.
 */
import { exitColumns } from "../exit/replay.js";
import type { Compensation, ExitHead } from "../exit/rule.js";
import { intervals } from "../exit/top-k.js";
import { column, exitColumn, type TrajectorySet } from "../exit/trajectory.js";

/** `"layer"`: one width a layer. `"document"`: also grows with how much the estimate moved since the previous exit. */
export type WidthKind = "layer" | "document";

/** Constant scores have residual 0, and a width must not be 0. */
const SMALLEST = 1e-6;

/**
 * Shapes from TRAIN. `"layer"`: the pooled deviation of residuals s − a_j around their mean over the list (what all
 * documents of a query share cannot change their order). `"document"`: |residual| ≈ width + trend · change by least
 * squares, both kept from going negative. Where exits come with units, both sides are divided by them.
 */
export function fitWidths(
  train: TrajectorySet,
  layers: readonly number[],
  heads: readonly Compensation[],
  kind: WidthKind,
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
