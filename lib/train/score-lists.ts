/**
 * Scores lists with the weights in training: the next list is encoded while the native trainer scores this one.
 */
import { inOrder } from "../in-order.js";
import type { NativeTrainer } from "../native-trainer.js";
import type { TrainEncoder } from "./types.js";

export interface ScoringList {
  readonly key: string;
  readonly query: string;
  readonly documents: readonly string[];
}

/** `scores` is [documents × exits]. Rejects with the signal's reason between lists. */
export function scoreLists<L extends ScoringList>(
  trainer: NativeTrainer,
  encoder: TrainEncoder,
  lists: Iterable<L>,
  signal: AbortSignal | undefined,
): AsyncGenerator<{ readonly list: L; readonly scores: Float32Array }, void, undefined> {
  return inOrder(lists, 2, signal, async (list) => ({
    list,
    scores: await trainer.score(encoder.pairs(list.query, list.documents)),
  }));
}
