/**
 * Every option is checked before any work: wrong values and unknown names are errors that say what was expected.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { nearest } from "../lib/check.js";
import { checkDocuments, checkPairs, checkQuery } from "../lib/inputs.js";
import { checkOpen, checkRerank, checkScore } from "../lib/options.js";
import type { OpenOptions, RerankOptions, ScoreOptions } from "../lib/types.js";

const limits = { maxTokens: 600, exitLayers: [2, 4, 6] };
const rerank = (options: object) => checkRerank(options as RerankOptions, limits);
const score = (options: object) => checkScore(options as ScoreOptions, limits);
const open = (options: object) => checkOpen(options as OpenOptions);
const wrong = (message: string) => expect.objectContaining({ code: "ERR_INVALID_ARGUMENT", message });
const invalid = expect.objectContaining({ name: "MatryoshkaError", code: "ERR_INVALID_ARGUMENT" });

describe("defaults", () => {
  it("of rerank: everything, at full depth, at most 512 tokens, with sigmoid scores", () => {
    expect(rerank({})).toEqual({
      ...{ topN: Number.POSITIVE_INFINITY, exit: { type: "full" }, depth: 6, layers: [], activation: "sigmoid" },
      ...{ returnDocuments: false, signal: undefined, maxLength: 512, truncation: "document" },
    });
    expect(checkRerank({}, { ...limits, maxTokens: 128 }).maxLength).toBe(128);
  });

  it("of score: every layer", () => {
    expect(score({})).toEqual({
      layers: [2, 4, 6],
      states: false,
      signal: undefined,
      maxLength: 512,
      truncation: "document",
    });
  });

  it("hold where an option is undefined", () => {
    expect(rerank({ topN: undefined, maxLength: undefined, exit: undefined })).toEqual(rerank({}));
    expect(open({ device: undefined })).toEqual({});
  });
});

describe("values", () => {
  it("that fit are taken", () => {
    expect(rerank({ maxLength: 600, topN: 1, exit: { type: "layer", layer: 4 }, layers: "all" })).toMatchObject({
      ...{ maxLength: 600, topN: 1, depth: 4, layers: [2, 4] },
    });
    expect(rerank({ layers: [6, 2, 6] }).layers).toEqual([2, 6]);
    expect(score({ layers: [4] }).layers).toEqual([4]);
    expect(open({ device: "reference", dtype: "f32", threads: 3 })).toEqual({
      device: "reference",
      dtype: "f32",
      threads: 3,
    });
    const { signal } = new AbortController();
    expect(rerank({ signal }).signal).toBe(signal);
  });

  it("that do not fit are named with what was expected", () => {
    expect(() => rerank({ topN: 0 })).toThrow(
      wrong("Expected an integer of at least 1 for options.topN but received 0 of type number."),
    );
    expect(() => rerank({ maxLength: 601 })).toThrow(
      wrong("Expected an integer from 1 to 600 for options.maxLength but received 601 of type number."),
    );
    expect(() => rerank({ exit: { type: "layer", layer: 3 } })).toThrow(
      wrong("Expected 2, 4, 6 for options.exit.layer but received 3 of type number."),
    );
    expect(() => rerank({ truncation: "query" })).toThrow(
      wrong('Expected "document", "error", "chunk-max" for options.truncation but received "query" of type string.'),
    );
  });

  it("of any other kind are refused", () => {
    const tables: [(options: object) => unknown, object][] = [
      [
        rerank,
        {
          topN: 1,
          exit: {},
          activation: "",
          layers: [],
          returnDocuments: true,
          signal: {},
          maxLength: 1,
          truncation: "",
        },
      ],
      [score, { layers: [], signal: {}, maxLength: 1, truncation: "" }],
      [open, { device: "", dtype: "", threads: 1 }],
    ];
    for (const [check, names] of tables) {
      for (const name of Object.keys(names))
        for (const value of [
          null,
          Number.NaN,
          1.5,
          -1,
          "nonsense",
          {},
          { type: "nonsense" },
          [[]],
          () => {},
          Symbol.iterator,
          10n,
        ])
          expect(() => check({ [name]: value }), `${name} ${String(value)}`).toThrow(invalid);
      for (const options of [null, 3, "x", []]) expect(() => check(options as object)).toThrow(invalid);
    }
  });

  it("of layers must be exits, and no deeper than the exit runs", () => {
    expect(() => rerank({ layers: [2, 3] })).toThrow(
      wrong("Expected 2, 4, 6 for options.layers[1] but received 3 of type number."),
    );
    expect(() => rerank({ layers: [6], exit: { type: "layer", layer: 4 } })).toThrow(invalid);
    expect(() => score({ layers: [] })).toThrow(invalid);
  });
});

describe("unknown names", () => {
  const unknown = (hint: string) =>
    expect.objectContaining({
      code: "ERR_UNKNOWN_OPTION",
      message: expect.stringContaining(`Did you mean "${hint}"?`),
    });

  it("are answered by the nearest one", () => {
    expect(() => rerank({ topn: 3 })).toThrow(unknown("topN"));
    expect(() => rerank({ max_length: 3 })).toThrow(unknown("maxLength"));
    expect(() => rerank({ exit: { type: "layer", layr: 2, layer: 2 } })).toThrow(unknown("layer"));
    expect(() => score({ layer: [2] })).toThrow(unknown("layers"));
    expect(() => open({ thread: 2 })).toThrow(unknown("threads"));
    expect(() => open({ constructor: 2 })).toThrow(expect.objectContaining({ code: "ERR_UNKNOWN_OPTION" }));
  });

  it("nearest is the fewest edits away", () => {
    const known = ["topN", "maxLength", "truncation", "layers"];
    for (const name of known) expect(nearest(name, known)).toBe(name);
    expect(nearest("truncate", known)).toBe("truncation");
    fc.assert(fc.property(fc.string(), (name) => known.includes(nearest(name, known))));
  });
});

describe("inputs", () => {
  it("a query is text", () => {
    for (const query of ["", " ", "\n\t\u00a0\u3000"])
      expect(() => checkQuery(query)).toThrow(expect.objectContaining({ code: "ERR_EMPTY_QUERY" }));
    for (const query of [null, undefined, 3, {}, ["a"]]) expect(() => checkQuery(query)).toThrow(invalid);
    checkQuery("\ud800");
  });

  it("documents are strings or objects with a text, and the first that is not is named", () => {
    checkDocuments(["", { text: "a", id: 3 }]);
    expect(() => checkDocuments("text")).toThrow(invalid);
    expect(() => checkDocuments(["a", 42])).toThrow(
      wrong(
        "Expected a string, or an object with a string under text, for documents[1] but received 42 of type number.",
      ),
    );
    for (const document of [null, undefined, {}, { text: 3 }, [], Symbol.iterator])
      expect(() => checkDocuments(["a", document])).toThrow(
        expect.objectContaining({ message: expect.stringContaining("documents[1]") }),
      );
    // biome-ignore lint/suspicious/noSparseArray: a hole is a document that is missing
    expect(() => checkDocuments(["a", , "b"])).toThrow(invalid);
  });

  it("pairs have a query and a document", () => {
    checkPairs([{ query: "a", document: "" }]);
    for (const pair of [null, 3, {}, { query: "a" }, { query: 3, document: "a" }])
      expect(() => checkPairs([pair])).toThrow(invalid);
    expect(() => checkPairs([{ query: " ", document: "a" }])).toThrow(
      expect.objectContaining({ code: "ERR_EMPTY_QUERY" }),
    );
  });
});
