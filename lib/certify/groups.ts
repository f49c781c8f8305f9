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

/** One scale a group, which `choose` finds for the group's own queries: so each has a guarantee of its own. */
export function groupScales<Query>(
  queries: readonly Query[],
  groups: readonly string[],
  choose: (own: readonly Query[]) => number | undefined,
): Map<string, GroupScale> {
  const members = new Map<string, Query[]>();
  groups.forEach((group, i) => {
    const list = members.get(group);
    if (list) list.push(queries[i]!);
    else members.set(group, [queries[i]!]);
  });
  return new Map([...members].map(([group, own]) => [group, { n: own.length, scale: choose(own) }]));
}
