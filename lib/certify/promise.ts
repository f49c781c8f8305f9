/**
 * The two promises about the first k results: what each bounds, which scale keeps it, how many queries that takes.
 */
import type { Certificate } from "./certificate.js";
import { crcScale, queriesNeededForRisk, rcpsScale, type WeightedScales } from "./crc.js";
import { criticalScale } from "./critical-scale.js";
import { scaleAt } from "./groups.js";
import { queriesNeeded, queriesNeededMarginal } from "./order-statistic.js";

type Kind = Certificate["kind"];

/**
 * The scale that keeps a promise to queries like these, given the critical scales of their first k and what losing each
 * costs; undefined if there are too few, or none is finite. Exact: a share α of queries may lose anybody. Recall: a share α
 * of the first k may be lost, on the mean of queries. δ null: on average over calibrations.
 */
export function scaleFor(
  kind: Kind,
  queries: readonly WeightedScales[],
  alpha: number,
  delta: number | null,
): number | undefined {
  if (kind === "exact-top-k") {
    const scales = queries.map((query) => criticalScale(query.scales));
    return scaleAt(scales, alpha, delta ?? undefined);
  }
  const scale = delta === null ? crcScale(queries, alpha) : rcpsScale(queries, alpha, delta);
  return Number.isFinite(scale) ? scale : undefined;
}

/** Fewest calibration queries with which the promise can be made at all. */
export function queriesFor(kind: Kind, alpha: number, delta: number | null): number {
  if (delta === null) return queriesNeededMarginal(alpha);
  return kind === "exact-top-k" ? queriesNeeded(alpha, delta) : queriesNeededForRisk(alpha, delta);
}
