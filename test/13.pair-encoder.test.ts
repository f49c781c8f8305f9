/**
 * Pairs become packed sequences: the reference's ids, and a limit that is never passed silently.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PackedBatch } from "../lib/packed-batch.js";
import { PairEncoder } from "../lib/pair-encoder.js";
import { buildTokenizer, loadTokenizer, type Tokenizer } from "../lib/tokenizer.js";
import type { Truncation } from "../lib/types.js";
import { encodeWhole, library } from "./fixtures/library.js";
import { goldens } from "./fixtures/shared.js";
import { wordPiece } from "./fixtures/tokenizers.js";

const [CLS, SEP] = [2, 3];
const tokenizer = buildTokenizer(wordPiece(), {});
/** n tokens of their own. */
const words = (n: number) => Array.from({ length: n }, (_, i) => "abcdefghijklmnopqrstuvwxyz"[i % 26]).join(" ");

/** The sequences of documents for one query, as plain arrays. */
function encode(
  query: string,
  documents: readonly string[],
  { maxLength = 512, truncation = "document" as Truncation, using = tokenizer as Tokenizer } = {},
) {
  const encoder = new PairEncoder(using, { maxLength, truncation });
  const batch = new PackedBatch();
  const encoded = encoder.query(query);
  for (const [i, document] of documents.entries())
    for (const _ of encoder.append(encoded, document, batch, i, `documents[${i}]`));
  const { tokenIds, typeIds, cuSeqlens } = batch.view(true);
  const cut = (from: Int32Array) => batch.owners.map((_, i) => [...from.subarray(cuSeqlens[i], cuSeqlens[i + 1])]);
  return { ids: cut(tokenIds), types: cut(typeIds!), owners: batch.owners, truncated: encoder.truncated };
}

const tooLong = (...parts: string[]) =>
  expect.objectContaining({
    code: "ERR_INPUT_TOO_LONG",
    message: expect.stringMatching(parts.map((part) => part.replace(/[[\]]/g, "\\$&")).join(".*")),
  });

describe("pairs", () => {
  for (const golden of goldens()) {
    it(`have the ids and types of golden set ${golden.name}`, async () => {
      const using = await loadTokenizer(golden.directory);
      for (const { query, passage, input_ids, token_type_ids } of golden.cases) {
        const { ids, types } = encode(query, [passage], { maxLength: golden.max_length, using });
        expect(ids[0], query).toEqual(input_ids);
        expect(types[0], query).toEqual(token_type_ids ?? input_ids.map(() => 0));
      }
    });
  }

  it("are laid out as the library lays them out", () => {
    const theirs = library(wordPiece());
    const word = fc.constantFrom("panda", "bear", "東京", "x", "😀", "[SEP]", " ", ".");
    const text = fc.array(word, { minLength: 1, maxLength: 12 }).map((parts) => parts.join(" "));
    fc.assert(
      fc.property(text, fc.array(text, { maxLength: 5 }), (query, documents) => {
        const { ids, types } = encode(query, documents);
        expect(documents.map((_, i) => [ids[i], types[i]])).toEqual(
          documents.map((document) => {
            const pair = theirs.encode(query, {
              text_pair: document,
              add_special_tokens: true,
              return_token_type_ids: true,
            });
            return [pair.ids, pair.token_type_ids];
          }),
        );
      }),
    );
  });

  it("of an empty document are the query alone, of a blank one a pair with nothing in it", () => {
    const [a] = tokenizer.encode("a");
    const { ids, types } = encode("a", ["", " \n"]);
    expect(ids).toEqual([
      [CLS, a, SEP],
      [CLS, a, SEP, SEP],
    ]);
    expect(types).toEqual([
      [0, 0, 0],
      [0, 0, 0, 1],
    ]);
  });

  it("know their query's list and their document", () => {
    const encoder = new PairEncoder(tokenizer, { maxLength: 512, truncation: "document" });
    const batch = new PackedBatch();
    let owner = 0;
    for (const count of [2, 0, 3]) {
      batch.endList();
      for (let i = 0; i < count; i++) for (const _ of encoder.append(encoder.query("a"), "b", batch, owner++, ""));
    }
    expect([...batch.view(false).listOffsets]).toEqual([0, 2, 5]);
    expect(batch.owners).toEqual([0, 1, 2, 3, 4]);
    batch.clear();
    expect(batch.view(true)).toEqual({
      tokenIds: new Int32Array(0),
      typeIds: new Int32Array(0),
      cuSeqlens: Int32Array.of(0),
      listOffsets: Int32Array.of(0),
    });
  });
});

describe('truncation: "document"', () => {
  it("cuts the document at the limit, keeps the query, and counts what it cut", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 8 }),
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 12, max: 24 }),
        (q, d, maxLength) => {
          const whole = encode(words(q), [words(d)]).ids[0]!;
          const { ids, truncated } = encode(words(q), [words(d)], { maxLength });
          const fits = whole.length <= maxLength;
          expect(ids[0]).toEqual(fits ? whole : [...whole.slice(0, maxLength - 1), SEP]);
          expect(truncated).toBe(fits ? 0 : 1);
        },
      ),
    );
  });

  it("does not count whitespace after the limit as cut", () => {
    expect(encode("a", [`${words(4)}   \n`], { maxLength: 8 }).truncated).toBe(0);
    expect(encode("a", [`${words(4)}   \n\u0007`], { maxLength: 8 }).truncated).toBe(0);
    expect(encode("a", [`${words(4)}   \n x`], { maxLength: 8 }).truncated).toBe(1);
  });

  it("never cuts the query: one that leaves no room for a document token is an error", () => {
    expect(encode(words(4), ["b"], { maxLength: 8 }).ids[0]).toHaveLength(8);
    expect(() => encode(words(5), ["b"], { maxLength: 8 })).toThrow(tooLong("documents[0]", "8 tokens", "5 tokens"));
    expect(encode(words(5), [" "], { maxLength: 8 }).ids[0]).toHaveLength(8);
    expect(() => encode(words(6), [" "], { maxLength: 8 })).toThrow(tooLong("documents[0]"));
    expect(encode(words(6), [""], { maxLength: 8 }).ids[0]).toHaveLength(8);
    expect(() => encode(words(7), [""], { maxLength: 8 })).toThrow(tooLong("documents[0]"));
    expect(() => encode(words(100), [], { maxLength: 8 })).toThrow(tooLong("at least 9"));
  });
});

describe('truncation: "error"', () => {
  it("names the document, its length and the limit", () => {
    expect(encode("a", [words(4)], { maxLength: 8, truncation: "error" }).ids[0]).toHaveLength(8);
    expect(() => encode("a", ["b", words(5)], { maxLength: 8, truncation: "error" })).toThrow(
      tooLong("at most 8 tokens", "documents[1]", "received 9\\."),
    );
  });

  it("does not count a huge document to its end", () => {
    expect(() => encode("a", [words(200_000)], { maxLength: 8, truncation: "error" })).toThrow(
      tooLong("more than 65544"),
    );
  });
});

describe('truncation: "chunk-max"', () => {
  it("covers the document with windows that overlap by a quarter, none longer than the limit", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 8, max: 30 }),
        (q, d, maxLength) => {
          const { ids, owners, types } = encode(words(q), ["x", words(d)], { maxLength, truncation: "chunk-max" });
          expect(owners.filter((owner) => owner === 0)).toHaveLength(1);
          const room = maxLength - q - 3;
          const overlap = room >> 2;
          const windows = ids.filter((_, i) => owners[i] === 1).map((window) => window.slice(q + 2, -1));
          const covered = windows.flatMap((window, i) => (i === 0 ? window : window.slice(overlap)));
          expect(covered).toEqual([...tokenizer.encode(words(d))]);
          for (const [i, window] of windows.entries()) {
            if (i > 0) expect(window.slice(0, overlap)).toEqual(windows[i - 1]!.slice(room - overlap));
            expect(window.length).toBeGreaterThan(i > 0 ? overlap : 0);
            expect(window.length).toBeLessThanOrEqual(room);
            if (i < windows.length - 1) expect(window.length).toBe(room);
          }
          for (const [i, sequence] of ids.entries())
            expect(types[i]).toEqual(sequence.map((_, at) => (at < q + 2 ? 0 : 1)));
        },
      ),
    );
  });

  it("needs room for a document token too", () => {
    expect(() => encode(words(5), ["b"], { maxLength: 8, truncation: "chunk-max" })).toThrow(tooLong("documents[0]"));
    expect(encode(words(4), [words(3)], { maxLength: 8, truncation: "chunk-max" }).ids).toHaveLength(3);
  });

  it("lets a full batch go in the middle of a document", () => {
    const encoder = new PairEncoder(tokenizer, { maxLength: 10, truncation: "chunk-max" });
    const batch = new PackedBatch();
    const sequences: number[][] = [];
    for (const whole of encoder.append(encoder.query("a"), words(40), batch, 0, "")) {
      if (!whole) continue;
      sequences.push([...batch.view(false).tokenIds]);
      batch.clear();
    }
    expect(sequences).toEqual(encode("a", [words(40)], { maxLength: 10, truncation: "chunk-max" }).ids);
  });
});

it("reading a long document yields often, so that other work can run", () => {
  const encoder = new PairEncoder(tokenizer, { maxLength: 128, truncation: "document" });
  let pauses = 0;
  for (const whole of encoder.append(encoder.query("a"), "x".repeat(100_000), new PackedBatch(), 0, ""))
    if (!whole) pauses++;
  expect(pauses).toBeGreaterThan(20);
  const ids = encodeWhole(library(wordPiece()), "x".repeat(4_096));
  expect(ids).toEqual([1]);
});
