/**
 * Rankings at full depth, and how far two of them agree.
 */
import { column, ranked, type TrajectorySet } from "../dist/exit/trajectory.js";

/** Document indices of each list, best first, at full depth. */
export function rankings({ layers, lists }: TrajectorySet): Uint32Array[] {
  return lists.map((list) => ranked(column(list, layers.length, layers.length - 1)));
}

/** Share of the reference's first k that `orders` has among its own first k, in [0, 1]. */
export function kept(orders: readonly Uint32Array[], reference: readonly Uint32Array[], k: number): number {
  let [same, all] = [0, 0];
  reference.forEach((order, i) => {
    const top = new Set(orders[i]!.subarray(0, k));
    const wanted = order.subarray(0, k);
    all += wanted.length;
    for (const d of wanted) if (top.has(d)) same++;
  });
  return same / all;
}
