/**
 * Group (Mondrian) calibration: a guarantee within each tenant, domain or bucket, not just on average over all.
 */
import { marginalIndex, pacIndex } from "./order-statistic.js";

export interface GroupScale {
  /** Calibration queries of the group. */
  readonly n: number;
  /** Undefined where n is too small: full depth. */
  readonly scale: number | undefined;
}

/** Order statistic at the guarantee's index, or undefined if n is too small. `delta` undefined is the marginal one. */
export function scaleAt(scales: ArrayLike<number>, alpha: number, delta: number | undefined): number | undefined {
  const index = delta === undefined ? marginalIndex(scales.length, alpha) : pacIndex(scales.length, alpha, delta);
  if (index === undefined) return undefined;
  const scale = Float64Array.from(scales).sort()[index - 1]!;
  return Number.isFinite(scale) ? scale : undefined;
}

/** One scale a group, each with its own guarantee (α, δ) for queries of that group. */
export function groupScales(
  scales: ArrayLike<number>,
  groups: readonly string[],
  alpha: number,
  delta: number | undefined,
): Map<string, GroupScale> {
  const members = new Map<string, number[]>();
  groups.forEach((group, i) => {
    const list = members.get(group);
    if (list) list.push(scales[i]!);
    else members.set(group, [scales[i]!]);
  });
  return new Map([...members].map(([group, own]) => [group, { n: own.length, scale: scaleAt(own, alpha, delta) }]));
}
