/**
 * The piece cache changes nothing but the time.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_PIECE_LENGTH, PieceCache } from "../lib/piece-cache.js";
import { buildTokenizer } from "../lib/tokenizer.js";
import { isWhitespaceLocal, type Pipeline } from "../lib/whitespace-local.js";
import { encodeWhole, library } from "./fixtures/library.js";
import { texts } from "./fixtures/texts.js";
import { unigram, wordPiece } from "./fixtures/tokenizers.js";

/** Any UTF-16, weighted towards what tokenizers treat specially. */
const text = fc
  .array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc.constantFrom(" ", "\n", "\t", "\r", "  ", "\u00a0", "\u3000", "\u2028", "\u0085", "\u200b"),
      },
      {
        weight: 4,
        arbitrary: fc.constantFrom("[SEP]", "<s>", "[", "]", "Σ", "ΑΣ", "'", ".", "\u0301", "\u0338", "▁", "東", "豈"),
      },
      {
        weight: 2,
        arbitrary: fc.constantFrom("\ud83d", "\ude00", "\u0000", "\ufffd", "\ufeff", "\u00ad", "İ", "ﷺ", "´", "½"),
      },
      { weight: 6, arbitrary: fc.string({ unit: "grapheme", maxLength: 8 }) },
      { weight: 4, arbitrary: fc.string({ unit: "binary", maxLength: 8 }) },
      { weight: 1, arbitrary: fc.nat(0xffff).map((code) => String.fromCharCode(code)) },
      { weight: 1, arbitrary: fc.constantFrom(...texts) },
    ),
    { maxLength: 24 },
  )
  .map((parts) => parts.join(""));

describe("the piece cache", () => {
  const variants: [string, () => object][] = [
    ["BERT uncased", wordPiece],
    ["BERT cased", () => ({ ...wordPiece(), normalizer: { ...wordPiece().normalizer, lowercase: false } })],
    ["BERT without a normalizer", () => ({ ...wordPiece(), normalizer: null })],
    ["XLM-RoBERTa", unigram],
    ["XLM-RoBERTa with a precompiled normalizer", () => ({ ...unigram(), normalizer: { type: "Precompiled" } })],
  ];
  for (const [name, make] of variants) {
    it(`gives the library's ids for any text: ${name}`, () => {
      expect(isWhitespaceLocal(make() as Pipeline)).toBe(true);
      const ours = buildTokenizer(make(), {});
      const theirs = library(make());
      fc.assert(
        fc.property(text, (value) => {
          expect([...ours.encode(value)]).toEqual(encodeWhole(theirs, value));
        }),
        { numRuns: 4_000 },
      );
    });
  }

  it("gives the same ids however small the steps are in which a text is read", () => {
    const tokenizer = buildTokenizer(wordPiece(), {});
    fc.assert(
      fc.property(text, fc.integer({ min: 1, max: 9 }), (value, step) => {
        const reader = tokenizer.reader(value);
        const ids: number[] = [];
        const out = new Int32Array(step);
        while (!reader.done) ids.push(...out.subarray(0, reader.read(out, 0, step)));
        expect(ids).toEqual([...tokenizer.encode(value)]);
      }),
    );
  });

  it("asks once for a piece that keeps coming back, and forgets what does not", () => {
    const asked = new Map<string, number>();
    const cache = new PieceCache((piece) => {
      asked.set(piece, (asked.get(piece) ?? 0) + 1);
      return [piece.length, 7];
    });
    for (let i = 0; i < 200_000; i++) {
      if (cache.get("stays")[0] !== 5) throw new Error(`wrong ids after ${i} pieces`);
      cache.get(`goes ${i}`);
    }
    expect(asked.get("stays")).toBe(1);
    cache.get("goes 0");
    expect(asked.get("goes 0")).toBe(2);
  });

  it("keeps a view right while later pieces replace everything", () => {
    const cache = new PieceCache((piece) => [piece.length]);
    const view = cache.get("abc");
    for (let i = 0; i < 200_000; i++) cache.get(`piece ${i}`);
    expect([...view]).toEqual([3]);
  });

  it("passes on pieces with no ids and with very many", () => {
    const cache = new PieceCache((piece) => new Array<number>(Number(piece)).fill(1));
    for (const length of [0, 1, 255, 256, 5_000])
      for (let i = 0; i < 2; i++) expect(cache.get(`${length}`)).toHaveLength(length);
  });

  it("takes pieces of up to 64 characters", () => expect(MAX_PIECE_LENGTH).toBe(64));
});

describe("a tokenizer that looks across whitespace gets no piece cache", () => {
  const metaspace = { type: "Metaspace", replacement: "▁", prepend_scheme: "first" };
  const cases: [string, object][] = [
    ["no pre-tokenizer", { ...wordPiece(), pre_tokenizer: null }],
    ["byte-level BPE", { ...wordPiece(), pre_tokenizer: { type: "ByteLevel" } }],
    ["Metaspace without a split before it", unigram(false)],
    [
      "a prefix for the first piece only",
      { ...unigram(), pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "WhitespaceSplit" }, metaspace] } },
    ],
    ["a normalizer that prepends", { ...wordPiece(), normalizer: { type: "Prepend", prepend: "▁" } }],
    [
      "a replacement of any pattern",
      { ...wordPiece(), normalizer: { type: "Replace", pattern: { Regex: "a b" }, content: "c" } },
    ],
    ["a normalizer that trims", { ...wordPiece(), normalizer: { type: "Strip", strip_left: true, strip_right: true } }],
    ["an added token with a space", { ...wordPiece(), added_tokens: [{ id: 5, content: "two words", special: true }] }],
    ["unknown tokens that fuse", { ...wordPiece(), model: { ...wordPiece().model, fuse_unk: true } }],
    [
      "Unigram without the mark that keeps unknown tokens apart",
      { ...unigram(), model: { ...unigram().model, vocab: [["<unk>", 0]] } },
    ],
    ["BPE", { ...wordPiece(), model: { type: "BPE", vocab: {}, merges: [] } }],
  ];
  for (const [name, json] of cases) it(name, () => expect(isWhitespaceLocal(json as Pipeline)).toBe(false));
});
