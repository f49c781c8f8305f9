/**
 * Splits queries into TRAIN (estimates and half-widths) and CAL (the one scale), with near-duplicates on one side: a guarantee learnt on a query must not be spent on its twin.
 */
import { MatryoshkaError } from "../errors.js";
import { Random } from "../eval/random.js";
import { nearDuplicates } from "./near-duplicates.js";

export interface SplitQuery {
  readonly query: string;
  /** Without a text, only the id is known and the query is nobody's duplicate. */
  readonly text?: string | undefined;
}

export interface SplitShares {
  readonly train: number;
  readonly cal: number;
}

export interface Split {
  readonly train: readonly string[];
  /** One query of each cluster of near-duplicates: repeating a query adds no evidence, so it must not add to n. */
  readonly cal: readonly string[];
  /** Queries left out of CAL because a near-duplicate is in it. */
  readonly duplicates: number;
}

/** Most of the queries make the guarantee; shapes need few. */
export const DEFAULT_SHARES: SplitShares = { train: 0.25, cal: 0.75 };

/**
 * Splits by seed: equal seeds and queries give equal splits, whatever order the queries come in. Shares are of the
 * number of queries and must add up to 1. Throws `ERR_INVALID_ARGUMENT`.
 */
export function splitQueries(queries: readonly SplitQuery[], seed: number | string, shares = DEFAULT_SHARES): Split {
  const { train, cal } = shares;
  if (!(train >= 0 && cal > 0) || Math.abs(train + cal - 1) > 1e-9) {
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected shares of train and cal that add up to 1, got ${train} and ${cal}`,
    );
  }
  const sorted = [...queries].sort((a, b) => (a.query < b.query ? -1 : a.query > b.query ? 1 : 0));
  const clusters = new Random(seed).shuffle(nearDuplicates(sorted.map(({ text }) => text)));
  const parts: { train: string[]; cal: string[] } = { train: [], cal: [] };
  let placed = 0;
  let duplicates = 0;
  for (const cluster of clusters) {
    const middle = (placed + cluster.length / 2) / sorted.length;
    placed += cluster.length;
    const ids = cluster.map((index) => sorted[index]!.query);
    if (middle < train) parts.train.push(...ids);
    else {
      parts.cal.push(ids[0]!);
      duplicates += ids.length - 1;
    }
  }
  return { ...parts, duplicates };
}
