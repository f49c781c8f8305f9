/**
 * What a rule does to a set of trajectories: compute, exactness, where documents stop.
 */
import { type CostShape, fullFlops, listFlops } from "../exit/cost.js";
import { type Replay, replay } from "../exit/replay.js";
import type { Rule } from "../exit/rule.js";
import { column, ranked, type Trajectory, type TrajectorySet } from "../exit/trajectory.js";

export interface Assessment {
  readonly queries: number;
  /** Mean over queries of FLOPs over full-depth FLOPs. */
  readonly computeFraction: number;
  /** Share of queries whose top k is full depth's: same documents, same order, all scored exactly. */
  readonly exactTopK: number;
  /** Mean share of full depth's top k that is in the rule's top k. */
  readonly recallTopK: number;
  /** Documents by the layer at which they stopped. */
  readonly exitHistogram: Readonly<Record<number, number>>;
  /**
   * Σ_l P(exit at l) · cost up to l, as a fraction of full depth's: the expected cost with documents of average length.
   * It differs from `computeFraction` where long documents stop elsewhere than short ones.
   */
  readonly expectedCost: number;
}

/** Order of full depth. */
export function fullOrder(list: Trajectory, layers: readonly number[]): Uint32Array {
  return ranked(column(list, layers.length, layers.length - 1));
}

/** Whether the first k documents of `result` are full depth's, in order; scores may be estimates (confidence, layer). */
export function hasTopK({ order }: Replay, full: Uint32Array, k: number): boolean {
  for (let r = 0; r < Math.min(k, full.length); r++) if (order[r] !== full[r]) return false;
  return true;
}

/** `hasTopK` of a rule, replayed. */
export function sameTopK(rule: Rule, list: Trajectory, layers: readonly number[], k: number): boolean {
  return hasTopK(replay(rule, list, layers), fullOrder(list, layers), k);
}

/** Whether `result` starts with full depth's top k, exactly scored. Lists of at most k documents compare whole. */
export function isTopKExact(result: Replay, full: Uint32Array, k: number): boolean {
  return hasTopK(result, full, k) && full.subarray(0, k).every((d) => result.exact[d] === 1);
}

/** Share of the first k documents of full depth that are among the first k of `result`. 1 where there are none. */
export function topKRecall({ order }: Replay, full: Uint32Array, k: number): number {
  const top = new Set(full.subarray(0, k));
  return top.size > 0 ? order.subarray(0, k).filter((d) => top.has(d)).length / top.size : 1;
}

/** FLOPs over full depth's of one list. */
export function computeShare(cost: CostShape, { tokens }: Trajectory, { exitLayers }: Replay): number {
  return tokens.length > 0 ? listFlops(cost, tokens, exitLayers) / fullFlops(cost, tokens) : 1;
}

/** Replays `rule` over all lists. */
export function assess(set: TrajectorySet, rule: Rule, k: number, cost: CostShape): Assessment {
  const histogram = new Map<number, number>();
  let computeFraction = 0;
  let exactTopK = 0;
  let recallTopK = 0;
  let documents = 0;
  let tokens = 0;
  for (const list of set.lists) {
    const result = replay(rule, list, set.layers);
    const full = fullOrder(list, set.layers);
    computeFraction += computeShare(cost, list, result);
    if (isTopKExact(result, full, k)) exactTopK++;
    recallTopK += topKRecall(result, full, k);
    for (const layer of result.exitLayers) histogram.set(layer, (histogram.get(layer) ?? 0) + 1);
    documents += list.tokens.length;
    for (const n of list.tokens) tokens += n;
  }
  const mean = Math.max(1, tokens / Math.max(1, documents));
  let expected = 0;
  for (const [layer, count] of histogram) expected += (count / documents) * listFlops(cost, [mean], [layer]);
  const queries = set.lists.length;
  return {
    queries,
    computeFraction: computeFraction / queries,
    exactTopK: exactTopK / queries,
    recallTopK: recallTopK / queries,
    exitHistogram: Object.fromEntries([...histogram].sort(([a], [b]) => a - b)),
    expectedCost: expected / fullFlops(cost, [mean]),
  };
}
