/**
 * What one query loses by an exit rule, from 0 to 1, in the terms of each promise.
 */
import { discounts, gains } from "../exit/budget.js";
import { type Replay, replay } from "../exit/replay.js";
import type { Rule } from "../exit/rule.js";
import { column, ranked, type Trajectory } from "../exit/trajectory.js";
import { fullOrder, isTopKExact, topKRecall } from "./assess.js";

/** "exact-top-k": all or nothing. "recall-top-k": the share of the first k that is missing. "ndcg": `ndcgLoss`. */
export type Loss = "exact-top-k" | "recall-top-k" | "ndcg";

/** Replays `rule` over a list that was scored to the end. */
export function lossOf(what: Loss, rule: Rule, list: Trajectory, layers: readonly number[], k: number): number {
  const result = replay(rule, list, layers);
  if (what === "ndcg") return ndcgLoss(column(list, layers.length, layers.length - 1), result, k);
  const full = fullOrder(list, layers);
  return what === "exact-top-k" ? Number(!isTopKExact(result, full, k)) : 1 - topKRecall(result, full, k);
}

/** 1 − nDCG@k of an order with the gains of `finals`, full depth's scores: no label is read. */
export function ndcgLoss(finals: Float32Array, { order }: Replay, k: number): number {
  const gain = gains(Float64Array.from(finals));
  const discount = discounts(k);
  const dcg = (ranking: Uint32Array) =>
    discount.reduce((sum, each, rank) => sum + (rank < ranking.length ? each * gain[ranking[rank]!]! : 0), 0);
  const ideal = dcg(ranked(finals));
  return ideal > 0 ? Math.max(0, 1 - dcg(order) / ideal) : 0;
}
