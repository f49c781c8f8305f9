/**
 * TREC runs: what a first stage or a reranker returned for each query, as `qid Q0 docid rank score tag` lines.
 */
import { MatryoshkaError } from "../errors.js";
import { type Line, malformed, readLines, refuse } from "./lines.js";

/** One retrieved document. */
export interface RunEntry {
  readonly id: string;
  readonly score: number;
}

/** Query id to its retrieved documents, in the order of the file; queries in order of first appearance. */
export type Run = ReadonlyMap<string, readonly RunEntry[]>;

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;

/** A finite decimal number, or undefined: no hexadecimal, no blanks, no NaN, no infinity. */
export function parseDecimal(text: string): number | undefined {
  if (!DECIMAL.test(text)) return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}

/**
 * Reads a run. The rank column is ignored, as trec_eval does; blank lines and lines that start with `#` are skipped.
 * Throws `ERR_INVALID_ARGUMENT` naming `file:line` for a malformed line or a document listed twice for one query, and
 * for a file without any result; `ERR_FILE` if it cannot be read. `onBad` gets malformed lines in place of a throw.
 */
export async function readRun(path: string, onBad = refuse): Promise<Run> {
  const run = new Map<string, RunEntry[]>();
  const seen = new Map<string, Map<string, number>>();
  const read = ({ text, number, where }: Line): void => {
    const fields = text.trim().split(/\s+/);
    if (fields[0] === "" || fields[0]!.startsWith("#")) return;
    if (fields.length < 6) throw malformed(where, "six fields `qid Q0 docid rank score tag`", text);
    const [query, , id, , written] = fields as [string, string, string, string, string];
    const score = parseDecimal(written);
    if (score === undefined) throw malformed(where, "a finite number as score (fifth field)", written);
    let lines = seen.get(query);
    if (!lines) {
      lines = new Map();
      seen.set(query, lines);
      run.set(query, []);
    }
    const earlier = lines.get(id);
    if (earlier !== undefined) {
      throw malformed(where, `each document once a query (line ${earlier} has it too)`, `${query} ${id}`);
    }
    lines.set(id, number);
    run.get(query)!.push({ id, score });
  };
  for await (const line of readLines(path, onBad)) {
    try {
      read(line);
    } catch (error) {
      onBad(error);
    }
  }
  if (run.size === 0) {
    throw new MatryoshkaError("ERR_INVALID_ARGUMENT", `${path}: expected at least one result line, got an empty run`);
  }
  return run;
}

/**
 * Writes a run in the given order with ranks from 1. Scores keep every digit of a double, so that reading it back
 * gives the same run. Throws `ERR_INVALID_ARGUMENT` for ids the format cannot hold (empty, or with white space) and
 * for scores that are not finite.
 */
export function formatRun(run: Run, tag = "matryoshka"): string {
  const field = (text: string, what: string): string => {
    if (text !== "" && !/\s/.test(text)) return text;
    throw malformed("TREC run", `a ${what} without white space`, text);
  };
  const out: string[] = [];
  const name = field(tag, "tag");
  for (const [query, entries] of run) {
    const qid = field(query, "query id");
    entries.forEach(({ id, score }, index) => {
      if (!Number.isFinite(score)) throw malformed("TREC run", `a finite score for ${query} ${id}`, String(score));
      out.push(`${qid} Q0 ${field(id, "document id")} ${index + 1} ${score} ${name}\n`);
    });
  }
  return out.join("");
}

/** The best `depth` candidates of a query, by score; ties keep the order of the file. */
export function candidates(entries: readonly RunEntry[], depth = Number.POSITIVE_INFINITY): RunEntry[] {
  return [...entries].sort((a, b) => b.score - a.score).slice(0, depth);
}
