/**
 * Mining rounds: the model in training scores candidates anew, and negatives come from its own top.
 */
import { MatryoshkaError } from "../errors.js";
import type { NativeTrainer } from "../native-trainer.js";
import type { MinedRound } from "./checkpoint.js";
import { scoreLists } from "./score-lists.js";
import type { ListSource, TrainEncoder } from "./types.js";

/** Scores a round's candidates at full depth. The source is not told before the round is whole: see `applyRound`. */
export async function mineRound(
  trainer: NativeTrainer,
  encoder: TrainEncoder,
  source: ListSource,
  {
    round,
    exits,
    signal,
  }: { readonly round: number; readonly exits: number; readonly signal?: AbortSignal | undefined },
): Promise<MinedRound> {
  const keys: string[] = [];
  const mined: Float32Array[] = [];
  for await (const { list, scores } of scoreLists(trainer, encoder, source.mining(round), signal)) {
    keys.push(list.key);
    mined.push(Float32Array.from(list.documents, (_, d) => scores[(d + 1) * exits - 1]!));
  }
  return { keys, scores: mined };
}

/** Tells the source what a round found. */
export function applyRound(source: ListSource, { keys, scores }: MinedRound): void {
  for (const [i, key] of keys.entries()) source.mined(key, Array.from(scores[i]!));
}

/**
 * Brings a fresh source to where it was after some rounds: their candidates are drawn again, as they were, and answered
 * from the checkpoint. Throws `ERR_CONFIG_INVALID` where other candidates are drawn: the data has changed.
 */
export function replayRounds(source: ListSource, rounds: readonly MinedRound[]): void {
  for (const [r, round] of rounds.entries()) {
    const drawn = Array.from(source.mining(r), ({ key, documents }) => `${key} ${documents.length}`);
    const then = round.keys.map((key, i) => `${key} ${round.scores[i]!.length}`);
    if (drawn.length !== then.length || drawn.some((each, i) => each !== then[i]))
      throw new MatryoshkaError(
        "ERR_CONFIG_INVALID",
        `Expected the data that mining round ${r} drew its candidates from, but it draws others now. Give back the data ` +
          "the run was begun with, or choose another output directory.",
      );
    applyRound(source, round);
  }
}
