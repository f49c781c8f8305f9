/**
 * Wall time of depths and exit rules, each beside full depth on the same queries.
 */
import type { Reranker } from "../reranker.js";
import type { Exit } from "../types.js";
import type { List } from "./lists.js";

export interface WallClock {
  /** Share of full depth's time. */
  readonly fraction: number;
  readonly pairsPerSecond: number;
}

export interface TimedOptions {
  readonly maxLength: number;
  readonly signal: AbortSignal;
  /** Called after every query. */
  readonly progress: (done: number, total: number) => void;
}

/**
 * Runs every exit and full depth on each of `lists` in turn, so that what else the machine does falls on all alike.
 * Times are of whole calls: tokenization, engine and sorting. One query is run beforehand and not counted.
 */
export async function wallClock(
  reranker: Reranker,
  lists: readonly List[],
  exits: readonly Exit[],
  { maxLength, signal, progress }: TimedOptions,
): Promise<WallClock[]> {
  const all: readonly Exit[] = [{ type: "full" }, ...exits];
  const totals = new Float64Array(all.length);
  const run = async (list: List, exit: Exit): Promise<number> => {
    const { stats } = await reranker.rerank(
      list.text,
      list.documents.map(({ text }) => text),
      { exit, maxLength, signal, ...(list.firstStage && { firstStageScores: list.firstStage }) },
    );
    return stats.milliseconds.total;
  };
  for (const exit of all) await run(lists[0]!, exit);
  for (const [i, list] of lists.entries()) {
    for (const [e, exit] of all.entries()) totals[e]! += await run(list, exit);
    progress(i + 1, lists.length);
  }
  const pairs = lists.reduce((sum, { documents }) => sum + documents.length, 0);
  return exits.map((_, e) => ({
    fraction: totals[e + 1]! / totals[0]!,
    pairsPerSecond: pairs / (totals[e + 1]! / 1e3),
  }));
}
