/**
 * Paths for Learn then Test: configurations of a rule, ordered from the safest to the cheapest on queries that are
 * not of CAL.
 */
import type { CostShape } from "../exit/cost.js";
import type { Compensation, ConfidenceRule, LayerRule, Rule } from "../exit/rule.js";
import type { TrajectorySet } from "../exit/trajectory.js";
import { assess, sameTopK } from "./assess.js";
import { paretoPath } from "./ltt.js";

/** Thresholds of a pair's confidence by logit, of a list's by value; from nearly never to nearly always. */
const LOGITS = Array.from({ length: 20 }, (_, i) => 10 - i * 0.5);
const SHARES = [0.999, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05];
const EASY = [0, 0.1, 0.2, 0.3, 0.45];

/** Confidence rules over a grid of thresholds, the same at every exit, and of difficulties where candidates have scores. */
export function confidenceGrid(
  exits: readonly (Compensation & { readonly layer: number })[],
  over: "pair" | "list",
  k: number,
  firstStage: boolean,
): ConfidenceRule[] {
  const thresholds = over === "pair" ? LOGITS.map((logit) => 1 / (1 + Math.exp(-logit))) : SHARES;
  return [1, ...thresholds].flatMap((threshold) =>
    (firstStage ? EASY : [0]).map(
      (easy): ConfidenceRule => ({
        type: "confidence",
        over,
        ...(easy > 0 && { difficulty: { easy, k } }),
        exits: exits.map(({ layer, slope, offset }) => ({ layer, slope, offset, threshold })),
      }),
    ),
  );
}

/** Static depths, deepest first. */
export function layerPath(layers: readonly number[]): LayerRule[] {
  return layers
    .slice(0, -1)
    .reverse()
    .map((layer) => ({ type: "layer", layer }));
}

/** Those of `rules` that no other beats in both failures and compute on `train`, safest first. */
export function tunedPath(rules: readonly Rule[], train: TrajectorySet, k: number, cost: CostShape): Rule[] {
  const points = rules.map((rule) => ({
    risk: train.lists.filter((list) => !sameTopK(rule, list, train.layers, k)).length,
    cost: assess(train, rule, k, cost).computeFraction,
  }));
  return paretoPath(points).map((i) => rules[i]!);
}
