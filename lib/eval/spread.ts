/**
 * Some of many, evenly over all of them.
 */

/** `n` of `all` in their order, or all where there are no more. */
export function spread<T>(all: readonly T[], n: number): T[] {
  const wanted = Math.min(n, all.length);
  return Array.from({ length: wanted }, (_, i) => all[Math.floor((i * all.length) / wanted)]!);
}
