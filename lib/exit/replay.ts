/**
 * Replays an exit rule over a stored trajectory: the same decisions, scores and order as the engine, without a model.
 */
import { MatryoshkaError } from "../errors.js";
import { budget } from "./budget.js";
import { confidence, firstStageDifficulty } from "./confidence.js";
import type { BudgetRule, ConfidenceRule, Rule, Stops, TopKRule } from "./rule.js";
import { topK } from "./top-k.js";
import { column, type ExitColumn, exitColumn, ranked, type Trajectory } from "./trajectory.js";

/** How a list left the engine. */
export interface Replay {
  /** [m] layer at which each document stopped. */
  readonly exitLayers: Uint8Array;
  /** [m] the score it is reported and ordered by: full depth's own where exact, else the estimate at its exit. */
  readonly scores: Float32Array;
  /** [m] 1 where the score is full depth's. */
  readonly exact: Uint8Array;
  /** [m] document indices, best first. */
  readonly order: Uint32Array;
}

/** Columns of `layers` (a trajectory's) that a rule's exits read. Throws `ERR_INVALID_ARGUMENT` for one it lacks. */
export function exitColumns(layers: readonly number[], exits: readonly { readonly layer: number }[]): number[] {
  const depth = layers[layers.length - 1]!;
  let previous = 0;
  return exits.map(({ layer }) => {
    const index = layers.indexOf(layer);
    if (index < 0 || layer >= depth || layer <= previous) {
      throw new MatryoshkaError(
        "ERR_INVALID_ARGUMENT",
        `Expected exits in ascending order out of the layers ${layers.slice(0, -1).join(", ")}, got layer ${layer} after ${previous}`,
      );
    }
    previous = layer;
    return index;
  });
}

/**
 * Replays `rule` over `list`, whose columns are `layers`. Under `top-k` exact documents come first, by score, then
 * stopped ones, by estimate; under the other rules all documents are ordered by score, because there a document may stop
 * wherever it ranks. Ties keep the input order.
 */
export function replay(rule: Rule, list: Trajectory, layers: readonly number[]): Replay {
  const m = list.documents.length;
  const depth = layers[layers.length - 1]!;
  const exitLayers = new Uint8Array(m).fill(depth);
  const exact = new Uint8Array(m).fill(1);
  const scores = column(list, layers.length, layers.length - 1);

  if (rule.type === "layer" && rule.layer !== depth) {
    const [index] = exitColumns(layers, [rule]);
    const stopped = column(list, layers.length, index!);
    return { exitLayers: exitLayers.fill(rule.layer), exact: exact.fill(0), scores: stopped, order: ranked(stopped) };
  }
  if (rule.type === "full" || rule.type === "layer") return { exitLayers, exact, scores, order: ranked(scores) };

  const columns = exitColumns(layers, rule.exits);
  const inputs = columns.map((each) => exitColumn(list, layers.length, each));
  const stops = decide(rule, list, inputs, scores);
  for (let d = 0; d < m; d++) {
    const exit = stops.exit[d]!;
    if (exit < 0) continue;
    exitLayers[d] = rule.exits[exit]!.layer;
    exact[d] = 0;
    scores[d] = stops.estimate[d]!;
  }
  const order = ranked(scores);
  if (rule.type === "top-k") order.set([...order.filter((d) => exact[d]!), ...order.filter((d) => !exact[d]!)]);
  return { exitLayers, exact, scores, order };
}

function decide(
  rule: TopKRule | BudgetRule | ConfidenceRule,
  list: Trajectory,
  columns: readonly ExitColumn[],
  finals: Float32Array,
): Stops {
  const m = list.documents.length;
  if (rule.type === "top-k") return topK(rule, columns, m);
  if (rule.type === "budget") return budget(rule, columns, finals, m);
  return confidence(rule, columns, m, difficulty(rule, list));
}

/** [m] difficulties where the rule reads them. Throws `ERR_INVALID_ARGUMENT` if the list has no first-stage scores. */
function difficulty(rule: ConfidenceRule, list: Trajectory): Float32Array | undefined {
  if (!rule.difficulty) return undefined;
  if (list.firstStage) return firstStageDifficulty(list.firstStage, rule.difficulty.k);
  throw new MatryoshkaError(
    "ERR_INVALID_ARGUMENT",
    `Query ${JSON.stringify(list.query)}: a rule with a difficulty threshold needs the candidates' first-stage scores`,
  );
}
