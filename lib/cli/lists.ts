/**
 * Queries with their candidates, as evaluation and calibration read them: a BEIR directory with a run, or JSON lines.
 */
import { join } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { known, passageText, readCorpus, readQueries } from "../eval/beir.js";
import { type Line, malformed, readLines } from "../eval/lines.js";
import { candidates, type Run } from "../eval/trec-run.js";
import { lines, parseObject, stringField } from "./input.js";

/** A query and its candidates, in the first stage's order. */
export interface List {
  /** Query id. */
  readonly query: string;
  readonly text: string;
  readonly documents: readonly { readonly id: string; readonly text: string }[];
  /** First-stage scores, where there are any. */
  readonly firstStage?: readonly number[];
  /** Value of `--group-by`. */
  readonly group?: string;
}

export interface ListOptions {
  /** Most candidates of a query, the best first. */
  readonly depth: number;
  /** Field of a query's JSON object to group by. */
  readonly groupBy?: string | undefined;
  readonly signal?: AbortSignal;
}

/**
 * The queries of `run` with their candidates' texts. Queries or documents that the BEIR directory does not have are
 * `ERR_INVALID_ARGUMENT`, and so is a blank query.
 */
export async function beirLists(directory: string, run: Run, { depth, groupBy }: ListOptions): Promise<List[]> {
  const path = join(directory, "queries.jsonl");
  const queries = await readQueries(path);
  const groups = groupBy === undefined ? undefined : await readGroups(path, groupBy);
  const chosen = [...run].map(([query, entries]) => [query, candidates(entries, depth)] as const);
  const wanted = new Set(chosen.flatMap(([, entries]) => entries.map(({ id }) => id)));
  const corpus = await readCorpus(join(directory, "corpus.jsonl"), wanted);
  return chosen.map(([query, entries]) => {
    const text = known(queries, query, "queries.jsonl has no query");
    if (text.trim() === "")
      throw new MatryoshkaError("ERR_EMPTY_QUERY", `${path}: expected text for query ${query}, got none`);
    return {
      query,
      text,
      documents: entries.map(({ id }) => ({
        id,
        text: passageText(known(corpus, id, "corpus.jsonl has no document")),
      })),
      firstStage: entries.map(({ score }) => score),
      ...(groups && { group: known(groups, query, `queries.jsonl has no field ${groupBy} at query`) }),
    };
  });
}

/** A field of each query, at the top or under BEIR's `metadata`. */
async function readGroups(path: string, field: string): Promise<Map<string, string>> {
  const groups = new Map<string, string>();
  for await (const line of readLines(path)) {
    if (line.text.trim() === "") continue;
    const record = parseObject(line);
    const group = groupOf(record, field) ?? groupOf((record.metadata ?? {}) as Record<string, unknown>, field);
    if (group !== undefined) groups.set(String(record._id), group);
  }
  return groups;
}

function groupOf(record: Record<string, unknown>, field: string): string | undefined {
  const value = record[field];
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

/**
 * Lists from lines `{"query", "documents": ["…", {"text", "id"?, "score"?}, …], "id"?}`, each file's in its order.
 * Without an `id`, a query is called by its file and line, a document by its position.
 */
export async function jsonLists(files: readonly string[], { depth, groupBy, signal }: ListOptions): Promise<List[]> {
  const lists = new Map<string, List>();
  for (const file of files) {
    for await (const line of lines(file, signal)) {
      const list = jsonList(line, depth, groupBy);
      if (lists.has(list.query)) throw malformed(line.where, "every query id once", list.query);
      lists.set(list.query, list);
    }
  }
  if (lists.size === 0)
    throw new MatryoshkaError("ERR_INVALID_ARGUMENT", `Expected at least one line in ${files.join(", ")}, got none`);
  return [...lists.values()];
}

function jsonList(line: Line, depth: number, groupBy: string | undefined): List {
  const record = parseObject(line);
  const text = stringField(record, "query", line);
  if (text.trim() === "") throw new MatryoshkaError("ERR_EMPTY_QUERY", `${line.where}: expected a query, got none`);
  const { documents, id } = record;
  if (!Array.isArray(documents) || documents.length === 0)
    throw malformed(line.where, 'a list with at least one document under "documents"', JSON.stringify(documents) ?? "");
  const read = documents.slice(0, depth).map((document: unknown, i) => {
    if (typeof document === "string") return { id: String(i), text: document, score: undefined };
    const object = (document ?? {}) as Record<string, unknown>;
    const own = groupOf(object, "id") ?? String(i);
    return { id: own, text: stringField(object, "text", line), score: object.score };
  });
  const scores = read.map(({ score }) => score);
  if (new Set(read.map((document) => document.id)).size < read.length)
    throw malformed(line.where, "every document id once", line.text);
  const group = groupBy === undefined ? undefined : groupOf(record, groupBy);
  if (groupBy !== undefined && group === undefined) throw malformed(line.where, `a group under ${groupBy}`, line.text);
  return {
    query: typeof id === "string" || typeof id === "number" ? String(id) : line.where,
    text,
    documents: read.map((document) => ({ id: document.id, text: document.text })),
    ...(scores.every((score) => typeof score === "number" && Number.isFinite(score)) && {
      firstStage: scores as number[],
    }),
    ...(group !== undefined && { group }),
  };
}
