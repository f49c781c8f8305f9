/**
 * A rule in the form the engine takes it, so that engine and replay start from the same numbers.
 */

import { discounts } from "./exit/budget.js";
import { sureness } from "./exit/confidence.js";
import type { BudgetRule, ConfidenceRule, TopKRule } from "./exit/rule.js";
import type { NativeRule } from "./native-engine.js";

/** `difficulty` is by document (`firstStageDifficulty` list by list), where the rule has an `easy`. */
export function nativeRule(rule: TopKRule | BudgetRule | ConfidenceRule, difficulty?: Float32Array): NativeRule {
  if (rule.type === "top-k") return { kind: "top-k", k: rule.k, scale: rule.scale, exits: rule.exits };
  if (rule.type === "budget")
    return { kind: "budget", stake: rule.stake, discounts: discounts(rule.k), exits: rule.exits };
  return {
    kind: "confidence",
    overList: rule.over === "list",
    exits: rule.exits.map(({ layer, slope, offset, threshold }) => ({
      layer,
      slope,
      offset,
      sure: sureness(rule, threshold),
    })),
    ...(rule.difficulty && difficulty && { easy: rule.difficulty.easy, difficulty }),
  };
}
