/**
 * Closed-form compensation heads: what each exit's score says about the final one, fitted by least squares on stored
 * trajectories (the TRAIN split).
 *
 * An affine head keeps the order within a query, so it neither helps nor harms who is pruned; it gives every exit's
 * scores one scale, so that stopped documents can be shown and compared with exact ones.
 */
import { MatryoshkaError } from "../errors.js";
import { exitColumns } from "../exit/replay.js";
import type { Compensation } from "../exit/rule.js";
import { exitColumn, type TrajectorySet } from "../exit/trajectory.js";

/**
 * One head per layer of `exits`, minimising Σ (slope · s_l + offset − s_L)². The slope is fitted on query-centred
 * scores, since only differences within a list decide anything; the offset makes the pooled means agree. An exit
 * without variance gets slope 0 (all its estimates tie, and ties never stop anybody). Rows with a score that is not
 * finite are left out. Throws `ERR_INVALID_ARGUMENT` if no row is usable.
 */
export function fitCompensation(train: TrajectorySet, exits: readonly number[]): Compensation[] {
  const columns = exitColumns(
    train.layers,
    exits.map((layer) => ({ layer })),
  );
  return columns.map((column, j) => {
    const { rows, x, y, xx, xy } = moments(train, column);
    if (rows === 0) {
      throw new MatryoshkaError(
        "ERR_INVALID_ARGUMENT",
        `Expected finite scores at layer ${exits[j]} to fit its compensation on, got none in ${train.lists.length} lists`,
      );
    }
    const slope = Math.fround(xx > 1e-12 * rows ? xy / xx : 0);
    return { slope, offset: Math.fround((y - slope * x) / rows) };
  });
}

/** Sums of an exit's scores x and final scores y, and their centred second moments, summed over queries. */
function moments({ layers, lists }: TrajectorySet, column: number): Record<"rows" | "x" | "y" | "xx" | "xy", number> {
  const stride = layers.length;
  const sum = { rows: 0, x: 0, y: 0, xx: 0, xy: 0 };
  for (const list of lists) {
    const { scores: said } = exitColumn(list, stride, column);
    let n = 0;
    let x = 0;
    let y = 0;
    let xx = 0;
    let xy = 0;
    for (let d = 0; d < said.length; d++) {
      const a = said[d]!;
      const b = list.scores[d * stride + stride - 1]!;
      if (!Number.isFinite(a) || !Number.isFinite(b)) continue;
      // Running means and centred sums (Welford): scores may be large and close together.
      n++;
      const dx = a - x;
      x += dx / n;
      y += (b - y) / n;
      xx += dx * (a - x);
      xy += dx * (b - y);
    }
    sum.rows += n;
    sum.x += n * x;
    sum.y += n * y;
    sum.xx += xx;
    sum.xy += xy;
  }
  return sum;
}
