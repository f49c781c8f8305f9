/**
 * Runs, judgements and data sets are read strictly: what is wrong is named with its file and line.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { passageText, readCorpus, readQueries, readSplit, splits } from "../lib/eval/beir.js";
import { readQrels } from "../lib/eval/qrels.js";
import { candidates, formatRun, readRun } from "../lib/eval/trec-run.js";

const directory = mkdtempSync(join(tmpdir(), "matryoshka-eval-"));
afterAll(() => rmSync(directory, { recursive: true }));
let files = 0;
function file(text: string): string {
  const path = join(directory, `file-${files++}`);
  writeFileSync(path, text);
  return path;
}
const refused = (promise: Promise<unknown>, message: RegExp, code = "ERR_INVALID_ARGUMENT"): Promise<void> =>
  expect(promise).rejects.toMatchObject({ code, message: expect.stringMatching(message) });

describe("TREC runs", () => {
  it("are read in file order, whatever the white space, and without their last newline", async () => {
    const run = await readRun(
      file("\ufeff1 Q0 d1 1 2.5 bm25\r\n# comment\n\n1\tQ0\td2  2 -1e-3 bm25 extra\n2 Q0 d1 1 .5 x"),
    );
    expect([...run]).toEqual([
      [
        "1",
        [
          { id: "d1", score: 2.5 },
          { id: "d2", score: -0.001 },
        ],
      ],
      ["2", [{ id: "d1", score: 0.5 }]],
    ]);
  });

  it("name the file and line of what is malformed", async () => {
    await refused(
      readRun(file("1 Q0 d1 1 2.5 t\n1 Q0 d2 2 1.5\n")),
      /file-\d+:2: expected six fields .* got "1 Q0 d2 2 1.5"/,
    );
    for (const score of ["high", "NaN", "0x10", "1e999", "inf"]) {
      await refused(readRun(file(`1 Q0 d1 1 ${score} t\n`)), /:1: expected a finite number as score/);
    }
    await refused(
      readRun(file("1 Q0 d 1 2 t\n2 Q0 d 1 2 t\n1 Q0 d 2 1 t\n")),
      /:3: expected each document once a query \(line 1 has it too\), got "1 d"/,
    );
    await refused(readRun(file("")), /expected at least one result line, got an empty run/);
    await refused(readRun(file("# nothing\n\n")), /empty run/);
    await refused(readRun(join(directory, "absent")), /Expected a readable file at .*absent/, "ERR_FILE");
  });

  it("survive writing and reading, to the last bit of every score", async () => {
    const id = fc.string({ minLength: 1, maxLength: 5, unit: "grapheme" }).filter((text) => !/\s|\ufeff|^#/.test(text));
    const score = fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => x + 0);
    const entries = fc.uniqueArray(fc.record({ id, score }), {
      selector: (entry) => entry.id,
      minLength: 1,
      maxLength: 5,
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(id, entries), { selector: ([query]) => query, minLength: 1, maxLength: 4 }),
        async (pairs) => {
          expect([...(await readRun(file(formatRun(new Map(pairs)))))]).toEqual(pairs);
        },
      ),
      { numRuns: 50 },
    );
  });

  it("are not written where the format cannot hold them", () => {
    const run = (id: string, score: number) => new Map([["q", [{ id, score }]]]);
    expect(() => formatRun(run("a b", 1))).toThrow(/document id without white space, got "a b"/);
    expect(() => formatRun(run("a", Number.NaN))).toThrow(/finite score for q a, got "NaN"/);
    expect(() => formatRun(run("a", 1), "my run")).toThrow(/tag without white space/);
    expect(formatRun(run("a", 1 / 3), "t")).toBe("q Q0 a 1 0.3333333333333333 t\n");
  });

  it("give candidates by score, ties in file order", () => {
    const entries = [
      { id: "a", score: 1 },
      { id: "b", score: 3 },
      { id: "c", score: 1 },
      { id: "d", score: 3 },
    ];
    expect(candidates(entries).map(({ id }) => id)).toEqual(["b", "d", "a", "c"]);
    expect(candidates(entries, 3).map(({ id }) => id)).toEqual(["b", "d", "a"]);
  });
});

describe("judgements", () => {
  it("are read from BEIR tables, with or without a header, and from TREC qrels", async () => {
    const expected = [
      [
        "q1",
        new Map([
          ["d1", 2],
          ["d 2", 0],
        ]),
      ],
    ];
    expect([...(await readQrels(file("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td 2\t0\n")))]).toEqual(expected);
    expect([...(await readQrels(file("q1\td1\t2\nq1\td 2\t0\n")))]).toEqual(expected);
    expect([...(await readQrels(file("q1 0 d1 2\nq1 0 d2 -1\n")))]).toEqual([
      [
        "q1",
        new Map([
          ["d1", 2],
          ["d2", -1],
        ]),
      ],
    ]);
  });

  it("name the file and line of what is malformed", async () => {
    await refused(readQrels(file("q1\td1\t1\nq1\td2\n")), /:2: expected `query-id<TAB>/);
    await refused(readQrels(file("q1 0 d1 relevant\n")), /:1: expected a whole number as grade, got "relevant"/);
    await refused(readQrels(file("q1 0 d1 0.5\n")), /:1: expected a whole number as grade/);
    await refused(
      readQrels(file("q1 0 d1 1\nq1 0 d1 2\n")),
      /:2: expected the grade given before for q1 d1, 1, got "2"/,
    );
    await refused(readQrels(file("query-id\tcorpus-id\tscore\n")), /at least one judgement, got an empty file/);
    expect((await readQrels(file("q1 0 d1 1\nq1 0 d1 1\n"))).get("q1")).toEqual(new Map([["d1", 1]]));
  });
});

describe("BEIR directories", () => {
  it("are read, only as much of the corpus as is wanted", async () => {
    const corpus = file(
      '{"_id":"a","title":"T","text":"x"}\n{"_id":"b","text":"y"}\n{"_id":3,"title":null,"text":""}\n',
    );
    expect([...(await readCorpus(corpus))]).toEqual([
      ["a", { title: "T", text: "x" }],
      ["b", { title: "", text: "y" }],
      ["3", { title: "", text: "" }],
    ]);
    expect([...(await readCorpus(corpus, new Set(["b", "absent"]))).keys()]).toEqual(["b"]);
    expect(passageText({ title: "T", text: "x" })).toBe("T x");
    expect(passageText({ title: "", text: "x" })).toBe("x");
    expect(passageText({ title: "T", text: "" })).toBe("T");
    expect([...(await readQueries(file('{"_id":"q","text":"what?","metadata":{}}')))]).toEqual([["q", "what?"]]);
  });

  it("name the file and line of what is malformed", async () => {
    await refused(readCorpus(file('{"_id":"a","text":"x"}\n{"_id":"b"\n')), /:2: expected one JSON object a line/);
    await refused(readCorpus(file("[]\n")), /:1: expected a JSON object/);
    await refused(readCorpus(file('{"_id":"a"}\n')), /:1: expected a string under `text`, got "nothing"/);
    await refused(readCorpus(file('{"_id":"a","text":"x","title":7}\n')), /:1: expected a string under `title`/);
    await refused(readCorpus(file('{"text":"x"}\n')), /:1: expected a non-empty string under `_id`/);
    await refused(
      readQueries(file('{"_id":"a","text":"x"}\n{"_id":"a","text":"y"}\n')),
      /:2: expected every `_id` once, got "a"/,
    );
  });

  it("say which splits there are", async () => {
    const data = join(directory, "set");
    mkdirSync(join(data, "qrels"), { recursive: true });
    writeFileSync(join(data, "qrels", "test.tsv"), "q1\td1\t1\n");
    writeFileSync(join(data, "qrels", "test.full.tsv"), "q1\td1\t1\nq1\td2\t0\n");
    expect(await splits(data)).toEqual(["test", "test.full"]);
    expect((await readSplit(data, "test.full")).get("q1")?.size).toBe(2);
    await refused(readSplit(data, "dev"), /expected a split out of test, test.full, got "dev"/);
    await refused(splits(join(directory, "absent")), /Expected a BEIR directory/, "ERR_FILE");
  });

  it("name the line that is not UTF-8, and go on after it where bad lines are only counted", async () => {
    const bytes = Buffer.concat([
      Buffer.from('{"_id":"a","text":"é"}\n{"_id":"b","text":"'),
      Buffer.of(0xff),
      Buffer.from('"}\r\n{"_id":"c","text":"x"}'),
    ]);
    const path = file("");
    writeFileSync(path, bytes);
    await refused(readCorpus(path), /:2: expected UTF-8 text, got/);
    const bad: unknown[] = [];
    expect([...(await readCorpus(path, undefined, (error) => bad.push(error))).keys()]).toEqual(["a", "c"]);
    expect(bad).toHaveLength(1);
    writeFileSync(path, Buffer.from('\ufeff{"_id":"a","text":"x"}\n', "utf16le"));
    await refused(readCorpus(path), /:1: expected UTF-8 text, got/);
  });

  it("are read across the borders of file chunks", async () => {
    const lines = Array.from({ length: 3000 }, (_, i) => JSON.stringify({ _id: `d${i}`, text: "é😀".repeat(i % 90) }));
    const corpus = await readCorpus(file(lines.join("\n")));
    expect(corpus.size).toBe(3000);
    expect(corpus.get("d2999")!.text).toBe("é😀".repeat(2999 % 90));
  });
});
