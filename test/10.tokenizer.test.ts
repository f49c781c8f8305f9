/**
 * Token ids are those of @huggingface/tokenizers.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DEFAULT_MODEL } from "../lib/model-info.js";
import { readPairTemplate } from "../lib/pair-template.js";
import { TokenReader, windows } from "../lib/token-reader.js";
import { buildTokenizer, loadTokenizer } from "../lib/tokenizer.js";
import { encodeWhole, library } from "./fixtures/library.js";
import { goldens, realTexts } from "./fixtures/shared.js";
import { texts } from "./fixtures/texts.js";
import { unigram, wordPiece } from "./fixtures/tokenizers.js";

const read = (directory: string, name: string) => JSON.parse(readFileSync(join(directory, name), "utf8")) as object;

describe("the tokenizer agrees with the library", () => {
  const directories = [
    ["the default model", DEFAULT_MODEL],
    ...goldens().map(({ name, directory }) => [`golden ${name}`, directory]),
  ] as [string, string][];

  for (const [name, directory] of directories) {
    it(`on texts in many scripts, with the files of ${name}`, async () => {
      const ours = await loadTokenizer(directory);
      const theirs = library(read(directory, "tokenizer.json"), read(directory, "tokenizer_config.json"));
      for (const text of texts) expect([...ours.encode(text)], JSON.stringify(text)).toEqual(encodeWhole(theirs, text));
    });
  }

  const real = realTexts(750);
  it.skipIf(real.length === 0)(
    "on at least 10,000 real texts, with the default model's files",
    { timeout: 300_000 },
    async () => {
      expect(real.length).toBeGreaterThanOrEqual(10_000);
      const ours = await loadTokenizer(DEFAULT_MODEL);
      const theirs = library(read(DEFAULT_MODEL, "tokenizer.json"), read(DEFAULT_MODEL, "tokenizer_config.json"));
      const different = real.filter((text) => {
        const expected = encodeWhole(theirs, text);
        const ids = ours.encode(text);
        return ids.length !== expected.length || expected.some((id, i) => id !== ids[i]);
      });
      expect(different).toEqual([]);
    },
  );

  it("also where it does not split at whitespace", () => {
    const ours = buildTokenizer(unigram(false), {});
    const theirs = library(unigram(false));
    for (const text of texts) expect([...ours.encode(text)], JSON.stringify(text)).toEqual(encodeWhole(theirs, text));
  });
});

describe("a long text", () => {
  const text = fc
    .array(fc.oneof(fc.constant("a".repeat(701)), fc.constant("😀".repeat(1500)), fc.constant(" "), fc.constant("é b")))
    .map((parts) => parts.join(""));

  it("is cut into windows that leave nothing out, part no character, and end before spaces where they can", () => {
    fc.assert(
      fc.property(text, (whole) => {
        const cut: string[] = [];
        const reader = new TokenReader(whole, windows, (stretch) => {
          cut.push(stretch);
          return [];
        });
        while (!reader.done) reader.peek();
        expect(cut.join("")).toBe(whole);
        for (const [i, part] of cut.entries()) {
          expect(part.length).toBeLessThanOrEqual(4096);
          expect(() => encodeURIComponent(part)).not.toThrow(); // a lone surrogate throws
          if (part.includes(" ", 1) && i < cut.length - 1) expect(cut[i + 1]).toMatch(/^ /);
        }
      }),
    );
  });
});

describe("the tokenizer", () => {
  it("ignores the truncation and padding of tokenizer.json", () => {
    const json = wordPiece();
    expect(json.truncation.max_length).toBe(4);
    expect(buildTokenizer(json, {}).encode("a b c d e f g h")).toHaveLength(8);
  });

  it("turns a special token spelled in the text into that token, as the library does", () => {
    expect([...buildTokenizer(wordPiece(), {}).encode("a[SEP]b [SEP]")].filter((id) => id === 3)).toHaveLength(2);
  });

  it("reads no more of a text than it is asked for", () => {
    const tokenizer = buildTokenizer(wordPiece(), {});
    const reader = tokenizer.reader("word ".repeat(2_000_000));
    const out = new Int32Array(8);
    expect(reader.read(out, 2, 5)).toBe(5);
    expect([...out.subarray(2, 7)]).toEqual([...tokenizer.encode("word word word word word")]);
    expect(out[7]).toBe(0);
    expect(reader.done).toBe(false);
  });

  it("encodes a long text without whitespace a window at a time, whole characters in each", () => {
    for (const json of [wordPiece(), unigram(), unigram(false)]) {
      const tokenizer = buildTokenizer(json, {});
      const text = "😀".repeat(20_001);
      const whole = tokenizer.encode(text);
      expect(whole.length).toBeLessThan(1_000);
      expect(tokenizer.encode("東".repeat(20_000)).length).toBeGreaterThanOrEqual(20_000);
    }
  });

  it("says which ids to expect: one more than the largest", () => {
    const json = wordPiece();
    const size = Object.keys(json.model.vocab).length;
    expect(buildTokenizer(json, {}).size).toBe(size);
    const list = unigram();
    expect(buildTokenizer(list, {}).size).toBe(unigram().model.vocab.length);
  });
});

describe("the pair template", () => {
  const special = (id: number, type = 0) => ({ kind: "special", id, type });

  it("is read from TemplateProcessing", () => {
    expect(readPairTemplate(wordPiece().post_processor)).toEqual({
      single: [special(2), { kind: "A", type: 0 }, special(3)],
      pair: [special(2), { kind: "A", type: 0 }, special(3), { kind: "B", type: 1 }, special(3, 1)],
    });
  });

  it("is read from BertProcessing", () => {
    expect(readPairTemplate({ type: "BertProcessing", cls: ["[CLS]", 7], sep: ["[SEP]", 8] })).toEqual({
      single: [special(7), { kind: "A", type: 0 }, special(8)],
      pair: [special(7), { kind: "A", type: 0 }, special(8), { kind: "B", type: 1 }, special(8, 1)],
    });
  });

  it("is read from RobertaProcessing, which separates twice and has one type", () => {
    const roberta = { type: "RobertaProcessing", cls: ["<s>", 0], sep: ["</s>", 2] };
    const expected = {
      single: [special(0), { kind: "A", type: 0 }, special(2)],
      pair: [special(0), { kind: "A", type: 0 }, special(2), special(2), { kind: "B", type: 0 }, special(2)],
    };
    expect(readPairTemplate(roberta)).toEqual(expected);
    expect(readPairTemplate({ type: "Sequence", processors: [{ type: "ByteLevel" }, roberta] })).toEqual(expected);
  });

  it("is refused where it is absent, unknown, malformed or without a document after the query", () => {
    const a = { Sequence: { id: "A", type_id: 0 } };
    const b = { Sequence: { id: "B", type_id: 0 } };
    const cls = { SpecialToken: { id: "[CLS]", type_id: 0 } };
    const template = { type: "TemplateProcessing", special_tokens: { "[CLS]": { ids: [1] } } };
    for (const wrong of [
      null,
      undefined,
      { type: "ByteLevel" },
      { type: "NewProcessing" },
      { type: "TemplateProcessing" },
      { type: "BertProcessing", cls: null },
      { type: "Sequence", processors: [] },
      { ...template, single: [cls, a], pair: [cls, a] },
      { ...template, single: [cls, a], pair: [cls, b, a] },
      { ...template, single: [cls, a], pair: [cls, a, b, a] },
      { ...template, single: [cls, a], pair: [a, { SpecialToken: { id: "[SEP]", type_id: 0 } }, b] },
    ])
      expect(() => readPairTemplate(wrong), JSON.stringify(wrong)).toThrow(
        expect.objectContaining({ code: "ERR_UNSUPPORTED_TOKENIZER" }),
      );
  });
});

describe("loading a tokenizer", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "matryoshka-tokenizer-"));
  });
  afterAll(() => rmSync(directory, { recursive: true }));
  const write = (text: string) => writeFileSync(join(directory, "tokenizer.json"), text);
  const refused = (code: string) => expect(loadTokenizer(directory)).rejects.toMatchObject({ code });

  it("needs tokenizer.json, but no tokenizer_config.json", async () => {
    await refused("ERR_MODEL_INVALID");
    write(JSON.stringify(wordPiece()));
    expect((await loadTokenizer(directory)).encode("a")).toHaveLength(1);
  });

  it("refuses files that are not a JSON object", async () => {
    for (const text of ["", "{", "[]", "3", "null"]) {
      write(text);
      await refused("ERR_MODEL_INVALID");
    }
  });

  it("refuses what the library does not know", async () => {
    write(JSON.stringify({ ...wordPiece(), normalizer: { type: "Unheard" } }));
    await refused("ERR_UNSUPPORTED_TOKENIZER");
    write(JSON.stringify({ ...wordPiece(), model: undefined }));
    await refused("ERR_UNSUPPORTED_TOKENIZER");
  });
});
