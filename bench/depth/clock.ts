/**
 * How long the engine takes for the timed queries under each exit, all exits in turn so that what else the machine does
 * falls on all alike.
 */
import type { List } from "../../dist/cli/lists.js";
import type { Exit, Reranker } from "../../dist/index.js";
import { MAX_LENGTH } from "../sets.js";
import { measureAsync } from "../suites/measure.js";

const ROUNDS = 3;

/** By position in `exits`: milliseconds for all of `lists`, one after the other, in the best round. */
export async function clock(reranker: Reranker, lists: readonly List[], exits: readonly Exit[]): Promise<number[]> {
  const best = exits.map(() => Number.POSITIVE_INFINITY);
  const run = async (exit: Exit): Promise<number> => {
    let sum = 0;
    for (const { text, documents } of lists) {
      const texts = documents.map((document) => document.text);
      sum += (await reranker.rerank(text, texts, { exit, maxLength: MAX_LENGTH })).stats.milliseconds.engine;
    }
    return sum;
  };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, exit] of exits.entries()) {
      const once = { maxTime: 0, minSamples: 1 };
      await measureAsync(async () => {
        best[i] = Math.min(best[i]!, await run(exit));
      }, once);
    }
  }
  return best;
}
