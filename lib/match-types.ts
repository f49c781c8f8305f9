/**
 * Match marks: token types of their own for tokens whose id also occurs on the other side of a pair, so that shallow
 * layers see exact matches without having to find them by attention.
 */
import type { Tokenizer } from "./tokenizer.js";

/** Types of the document's tokens that are in the query, and of the query's that are in the document. */
const DOCUMENT_MATCH = 2;
const QUERY_MATCH = 3;

/** Types a model needs for marks. */
export const MATCH_TYPES = 4;

/** Words that match everywhere and say nothing: English function words. */
const STOP_WORDS =
  "a about after all also an and any are as at be because been before being between both but by can could did do does " +
  "doing during each for from had has have having he her here hers him his how i if in into is it its just may me might " +
  "more most much must my no nor not of off on once only or other our out over own same she should so some such than " +
  "that the their them then there these they this those through to too under until up very was we were what when where " +
  "which while who whom why will with would you your";

const PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

/** Ids that are never marked: those of stop words and punctuation, and the template's special tokens. */
export function unmarkedIds(tokenizer: Tokenizer): ReadonlySet<number> {
  const ids = new Set<number>();
  for (const part of [...tokenizer.template.single, ...tokenizer.template.pair])
    if (part.kind === "special") ids.add(part.id);
  // A word of several pieces shares them with other words.
  for (const word of STOP_WORDS.split(" ")) {
    const pieces = tokenizer.encode(word);
    if (pieces.length === 1) ids.add(pieces[0]!);
  }
  for (const mark of PUNCTUATION) for (const id of tokenizer.encode(mark)) ids.add(id);
  return ids;
}

/** One sequence: tokens [begin, end), of which [first, last) are the document's. */
export interface Sequence {
  readonly begin: number;
  readonly first: number;
  readonly last: number;
  readonly end: number;
}

/** Overwrites the types of matching tokens. `wanted` has the query's ids that may be marked. */
export function markMatches(
  ids: Int32Array,
  types: Int32Array,
  wanted: ReadonlySet<number>,
  { begin, first, last, end }: Sequence,
): void {
  const found = new Set<number>();
  for (let i = first; i < last; i++) {
    if (!wanted.has(ids[i]!)) continue;
    types[i] = DOCUMENT_MATCH;
    found.add(ids[i]!);
  }
  if (found.size === 0) return;
  for (let i = begin; i < end; i++) if ((i < first || i >= last) && found.has(ids[i]!)) types[i] = QUERY_MATCH;
}
