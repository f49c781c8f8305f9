/**
 * The confidence rule: a document stops when its exit is sure, or when it looked easy from the start.
 */
import { estimate } from "./estimate.js";
import { expTerms } from "./exp.js";
import type { ConfidenceRule, Stops } from "./rule.js";
import type { ExitColumn } from "./trajectory.js";

/**
 * What a device compares with: max(σ(a), 1 − σ(a)) > θ is |a| > ln(θ / (1 − θ)), computed once in double; over a list it
 * is θ itself. θ = 1 is never exceeded.
 */
export function sureness({ over }: ConfidenceRule, threshold: number): number {
  return over === "list" ? threshold : Math.log(threshold / (1 - threshold));
}

/**
 * Largest softmax probability over a list: 1 / Σ exp(a_d − max a), in double, added in the order of the documents.
 * Estimates that are not finite are left out; 0 if none is.
 */
export function listConfidence(estimates: ArrayLike<number>): number {
  const { sum } = expTerms(estimates, 1);
  return sum > 0 ? 1 / sum : 0;
}

/**
 * Difficulty from the first stage, in [0, 1], float32: 1 at its own rank-k boundary, 0 for the document farthest from
 * it, linear in the score between. All 1 if the list has at most k documents, equal scores, or no finite ones.
 */
export function firstStageDifficulty(firstStage: ArrayLike<number>, k: number): Float32Array {
  const m = firstStage.length;
  const out = new Float32Array(m).fill(1);
  const sorted = Float64Array.from(firstStage).sort().reverse();
  if (m <= k || !sorted.every(Number.isFinite)) return out;
  const boundary = sorted[k - 1]!;
  const range = Math.max(sorted[0]! - boundary, boundary - sorted[m - 1]!);
  if (range > 0) for (let d = 0; d < m; d++) out[d] = 1 - Math.abs(firstStage[d]! - boundary) / range;
  return out;
}

/**
 * Decides for one list of m documents; `columns` are of each of the rule's exits, `difficulty` is [m] float32 where the rule reads it. Documents whose estimate is not finite never stop.
 */
export function confidence(
  rule: ConfidenceRule,
  columns: readonly ExitColumn[],
  m: number,
  difficulty?: Float32Array,
): Stops {
  const exit = new Int8Array(m).fill(-1);
  const stopped = new Float32Array(m);
  const easy = Math.fround(rule.difficulty?.easy ?? 0);
  let alive = Uint32Array.from({ length: m }, (_, d) => d);
  rule.exits.forEach((head, j) => {
    const estimates = Float32Array.from(alive, (d) => estimate(head, columns[j]!.scores[d]!));
    const sure = sureness(rule, head.threshold);
    const shared = rule.over === "list" ? listConfidence(estimates) : 0;
    alive = alive.filter((d, i) => {
      const a = estimates[i]!;
      const confident = (rule.over === "list" ? shared : Math.abs(a)) > sure;
      if (!Number.isFinite(a) || !(confident || (difficulty !== undefined && difficulty[d]! < easy))) return true;
      exit[d] = j;
      stopped[d] = a;
      return false;
    });
  });
  return { exit, estimate: stopped };
}
