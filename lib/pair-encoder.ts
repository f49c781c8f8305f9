/**
 * Writes (query, document) pairs into a packed batch, each within the length limit by the rule the caller chose.
 */
import { MatryoshkaError } from "./errors.js";
import { markMatches } from "./match-types.js";
import type { PackedBatch } from "./packed-batch.js";
import type { TemplatePart } from "./pair-template.js";
import type { Tokenizer } from "./tokenizer.js";
import type { Truncation } from "./types.js";

/** Token ids with their types. */
interface Run {
  readonly ids: Int32Array;
  readonly types: Int32Array;
}

/** A query in its place in the template: everything of a sequence but the document. */
export interface EncodedQuery {
  /** Before the document. */
  readonly prefix: Run;
  readonly documentType: number;
  /** After the document. */
  readonly suffix: Run;
  /** The whole sequence of an empty document. */
  readonly alone: Run;
  /** Tokens of the query itself. */
  readonly length: number;
  /** Its ids that are marked where a document has them too; empty where nothing is. */
  readonly marked: ReadonlySet<number>;
}

export interface PairEncoderOptions {
  /** In tokens, special tokens included. */
  readonly maxLength: number;
  readonly truncation: Truncation;
  /** For a model whose token types mark matches: ids that are never marked. */
  readonly unmarked?: ReadonlySet<number> | undefined;
}

/** How many tokens of a too long document are counted for the error's message before it says "more than". */
const COUNTED = 1 << 16;

export class PairEncoder {
  /** Documents cut under `"document"`, so far. */
  truncated = 0;
  readonly #tokenizer: Tokenizer;
  readonly #maxLength: number;
  readonly #truncation: Truncation;
  readonly #unmarked: ReadonlySet<number> | undefined;

  constructor(tokenizer: Tokenizer, { maxLength, truncation, unmarked }: PairEncoderOptions) {
    this.#tokenizer = tokenizer;
    this.#maxLength = maxLength;
    this.#truncation = truncation;
    this.#unmarked = unmarked;
  }

  /**
   * Encodes a query once for all its documents. Throws `ERR_INPUT_TOO_LONG` where it alone exceeds the limit; with
   * `most`, as training does, only its first tokens are used.
   */
  query(text: string, most = Number.POSITIVE_INFINITY): EncodedQuery {
    const reader = this.#tokenizer.reader(text);
    const limit = Math.min(this.#maxLength + 1, most);
    const buffer = new Int32Array(limit);
    let length = 0;
    while (length < limit && !reader.done) length += reader.read(buffer, length, limit - length);
    if (length > this.#maxLength) throw this.#queryTooLong(`at least ${length}`, "a document");
    const ids = buffer.subarray(0, length);
    const { single, pair } = this.#tokenizer.template;
    const at = pair.findIndex(({ kind }) => kind === "B");
    return {
      prefix: join(pair.slice(0, at), ids),
      documentType: pair[at]!.type,
      suffix: join(pair.slice(at + 1), ids),
      alone: join(single, ids),
      length: ids.length,
      marked: new Set(this.#unmarked && [...ids].filter((id) => !this.#unmarked!.has(id))),
    };
  }

  /**
   * Appends a document's sequence, or its windows under `"chunk-max"`. Yields true after each sequence, when the batch
   * may be submitted and cleared, and false while it reads a long text, when it may not. `name` is what errors call the
   * document, and `owner` its position in the input.
   */
  *append(
    query: EncodedQuery,
    text: string,
    batch: PackedBatch,
    owner: number,
    name: string,
  ): Generator<boolean, void> {
    const specials = query.prefix.ids.length + query.suffix.ids.length;
    const room = this.#maxLength - specials;
    const truncation = this.#truncation;
    if (text === "") {
      // As in Hugging Face's libraries: no document, no pair.
      const { alone } = query;
      this.#demand(query, alone.ids.length, name);
      batch.reserve(alone.ids.length);
      place(batch, alone, batch.tokens);
      batch.endSequence(alone.ids.length, owner);
      yield true;
      return;
    }
    this.#demand(query, specials, name);
    const reader = this.#tokenizer.reader(text);
    // Each window begins with the last quarter of the one before, so that an answer cut by one border lies whole in the
    // next window unless it is longer than that quarter.
    const overlap = truncation === "chunk-max" ? room >> 2 : 0;
    const last = new Int32Array(overlap);
    for (let filled = 0; ; filled = overlap) {
      batch.reserve(this.#maxLength);
      const start = batch.tokens + query.prefix.ids.length;
      batch.tokenIds.set(last.subarray(0, filled), start);
      while (filled < room && !reader.done) {
        filled += reader.read(batch.tokenIds, start + filled, room - filled);
        if (filled < room && !reader.done) yield false;
      }
      while (!reader.peek() && !reader.done) yield false;
      if (!reader.done) {
        if (truncation === "error") {
          const counted = new Int32Array(COUNTED);
          let rest = 0;
          for (; rest < COUNTED && !reader.done; yield false) rest += reader.read(counted, rest, COUNTED - rest);
          throw this.#tooLong(`${reader.done ? "" : "more than "}${specials + filled + rest}`, name);
        }
        // A window without a token of the document would score nothing.
        this.#demand(query, specials + 1, name);
        if (truncation === "document") this.truncated++;
        last.set(batch.tokenIds.subarray(start + filled - overlap, start + filled));
      }
      place(batch, query.prefix, batch.tokens);
      batch.typeIds.fill(query.documentType, start, start + filled);
      place(batch, query.suffix, start + filled);
      if (query.marked.size > 0) {
        const [begin, last] = [batch.tokens, start + filled];
        const end = last + query.suffix.ids.length;
        markMatches(batch.tokenIds, batch.typeIds, query.marked, { begin, first: start, last, end });
      }
      batch.endSequence(specials + filled, owner);
      yield true;
      if (reader.done || truncation !== "chunk-max") return;
    }
  }

  /** Throws where not even `length` tokens fit, which only a shorter query can change. */
  #demand(query: EncodedQuery, length: number, name: string): void {
    if (length > this.#maxLength) throw this.#queryTooLong(`${query.length}`, name);
  }

  #tooLong(tokens: string, name: string): MatryoshkaError {
    return new MatryoshkaError(
      "ERR_INPUT_TOO_LONG",
      `Expected at most ${this.#maxLength} tokens for ${name} with its query but received ${tokens}. ` +
        'Shorten it, or choose truncation "document" or "chunk-max".',
    );
  }

  #queryTooLong(tokens: string, name: string): MatryoshkaError {
    return new MatryoshkaError(
      "ERR_INPUT_TOO_LONG",
      `Expected a query that leaves room for ${name} within ${this.#maxLength} tokens but received one of ` +
        `${tokens} tokens. A query is never cut: shorten it, or raise maxLength where the model allows it.`,
    );
  }
}

function join(parts: readonly TemplatePart[], query: Int32Array): Run {
  const runs = parts.map((part) => (part.kind === "special" ? [part.id] : [...query]));
  return {
    ids: Int32Array.from(runs.flat()),
    types: Int32Array.from(runs.flatMap((run, i) => new Array<number>(run.length).fill(parts[i]!.type))),
  };
}

function place(batch: PackedBatch, { ids, types }: Run, at: number): void {
  batch.tokenIds.set(ids, at);
  batch.typeIds.set(types, at);
}
