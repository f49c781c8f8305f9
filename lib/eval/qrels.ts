/**
 * Relevance judgements: query id to document id to grade, from a BEIR table or a TREC qrels file.
 */
import { MatryoshkaError } from "../errors.js";
import { type Line, malformed, readLines, refuse } from "./lines.js";

/** Document id to grade: 0 is judged not relevant, negative is in the pool but unjudged (trec_eval's convention). */
export type Judgements = ReadonlyMap<string, number>;
export type Qrels = ReadonlyMap<string, Judgements>;

/**
 * Reads `query-id<TAB>corpus-id<TAB>score` (BEIR, with or without its header line) or `qid iter docid grade` (TREC).
 * Throws `ERR_INVALID_ARGUMENT` naming `file:line` for a malformed line or two different grades for one pair, and for
 * a file without any judgement; `ERR_FILE` if it cannot be read. `onBad` gets malformed lines in place of a throw.
 */
export async function readQrels(path: string, onBad = refuse): Promise<Qrels> {
  const qrels = new Map<string, Map<string, number>>();
  const read = ({ text, number, where }: Line): void => {
    if (text.trim() === "") return;
    const fields = text.includes("\t") ? text.split("\t").map((field) => field.trim()) : text.trim().split(/\s+/);
    if (number === 1 && fields.length === 3 && fields[2] === "score") return;
    if (fields.length !== 3 && fields.length !== 4) {
      throw malformed(where, "`query-id<TAB>corpus-id<TAB>score` or `qid iter docid grade`", text);
    }
    const query = fields[0]!;
    const id = fields[fields.length - 2]!;
    const written = fields[fields.length - 1]!;
    if (query === "" || id === "") throw malformed(where, "a query id and a document id", text);
    if (!/^[+-]?\d{1,9}$/.test(written)) throw malformed(where, "a whole number as grade", written);
    const grade = Number(written);
    let judgements = qrels.get(query);
    if (!judgements) {
      judgements = new Map();
      qrels.set(query, judgements);
    }
    const earlier = judgements.get(id);
    if (earlier !== undefined && earlier !== grade) {
      throw malformed(where, `the grade given before for ${query} ${id}, ${earlier}`, written);
    }
    judgements.set(id, grade);
  };
  for await (const line of readLines(path, onBad)) {
    try {
      read(line);
    } catch (error) {
      onBad(error);
    }
  }
  if (qrels.size === 0) {
    throw new MatryoshkaError("ERR_INVALID_ARGUMENT", `${path}: expected at least one judgement, got an empty file`);
  }
  return qrels;
}
