/**
 * Queries with candidates and no labels, as the commands that calibrate and compensate take them.
 */
import { basename } from "node:path";
import { type RunEntry, readRun } from "../eval/trec-run.js";
import { count, text, texts, UsageError, type Values } from "./command.js";
import { beirLists, jsonLists, type List, type ListOptions } from "./lists.js";

export const CANDIDATES = {
  data: { type: "string" },
  run: { type: "string", multiple: true },
  pairs: { type: "string", multiple: true },
  candidates: { type: "string" },
} as const;

export const CANDIDATES_HELP = `  --data DIR         BEIR directory with corpus.jsonl and queries.jsonl
  --run FILE.trec    candidates; may be repeated: each query's come from the first run that has it
  --pairs FILE|-     instead: lines {"query", "documents": ["…", {"text", "id", "score"}]}; may be repeated
  --candidates N     candidates of a query, the best or first (default: 100)`;

export interface CandidateSource {
  readonly data: string | undefined;
  readonly run: readonly string[];
  readonly pairs: readonly string[];
  /** Most candidates of a query. */
  readonly candidates: number;
  /** The files' names, for provenance. */
  readonly source: string;
}

/** Throws `UsageError` where the options contradict each other. */
export function candidateSource(values: Values): CandidateSource {
  const { data, run, pairs } = { data: text(values, "data"), run: texts(values, "run"), pairs: texts(values, "pairs") };
  if ((data === undefined) === (pairs.length === 0)) throw new UsageError("either --data or --pairs is needed");
  if (data !== undefined && run.length === 0) throw new UsageError("--run is needed");
  if (data === undefined && run.length > 0) throw new UsageError("--run needs --data");
  const paths = [data, ...run, ...pairs].flatMap((path) => path ?? []);
  const source = paths.map((path) => basename(path)).join("+");
  return { data, run, pairs, source, candidates: count(values, "candidates") ?? 100 };
}

export async function candidateLists(
  { data, run, pairs, candidates: depth }: CandidateSource,
  { groupBy, signal }: Omit<ListOptions, "depth"> & { readonly signal: AbortSignal },
): Promise<List[]> {
  if (data === undefined) return jsonLists(pairs, { depth, groupBy, signal });
  const merged = new Map<string, readonly RunEntry[]>();
  for (const file of run)
    for (const [query, entries] of await readRun(file)) if (!merged.has(query)) merged.set(query, entries);
  return beirLists(data, merged, { depth, groupBy });
}
