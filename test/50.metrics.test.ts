/**
 * Ranking metrics follow trec_eval's rules.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSplit } from "../lib/eval/beir.js";
import { evaluate, measure, parseMeasure, STANDARD_MEASURES, trecOrder, trecRankings } from "../lib/eval/metrics.js";
import { readQrels } from "../lib/eval/qrels.js";
import { pairedComparison } from "../lib/eval/significance.js";
import { regularizedBeta } from "../lib/eval/special.js";
import { readRun } from "../lib/eval/trec-run.js";

const fixtures = join(import.meta.dirname, "fixtures", "eval");
const expected = JSON.parse(readFileSync(join(fixtures, "expected.json"), "utf8")) as {
  level1: Record<string, Record<string, number>>;
  level2: Record<string, Record<string, number>>;
  tTest: { a: number[]; b: number[]; p: number };
  beta: [number, number, number, number][];
};
const value = (name: string, ranking: string[], grades: Record<string, number>, level?: number): number =>
  measure(parseMeasure(name), ranking, new Map(Object.entries(grades)), level);

describe("metrics", () => {
  it("agree with an independent implementation on runs with ties, negative grades and unjudged documents", async () => {
    const rankings = trecRankings(await readRun(join(fixtures, "run.trec")));
    const qrels = await readQrels(join(fixtures, "qrels.tsv"));
    for (const level of [1, 2] as const) {
      const table = expected[`level${level}`];
      const names = Object.keys(Object.values(table)[0]!);
      const { queries, perQuery } = evaluate(rankings, qrels, names, { relevanceLevel: level });
      expect(queries).toEqual(Object.keys(table));
      queries.forEach((query, i) => {
        for (const name of names) expect(perQuery[name]![i], `${query} ${name}`).toBeCloseTo(table[query]![name]!, 12);
      });
    }
  });

  it("agree with cases worked by hand", () => {
    const grades = { a: 3, b: 2, c: 0, d: 1 };
    // DCG: 0/log2(2) + 3/log2(3) + 0/log2(4); ideal: 3/log2(2) + 2/log2(3) + 1/log2(4).
    expect(value("nDCG@3", ["c", "a", "x"], grades)).toBeCloseTo(3 / Math.log2(3) / (3 + 2 / Math.log2(3) + 0.5), 14);
    expect(value("nDCG@1", ["b"], grades)).toBeCloseTo(2 / 3, 14);
    expect(value("MRR@10", ["x", "c", "d"], grades)).toBeCloseTo(1 / 3, 14);
    expect(value("MRR@2", ["x", "c", "d"], grades)).toBe(0);
    expect(value("MAP", ["a", "x", "b"], grades)).toBeCloseTo((1 + 2 / 3) / 3, 14);
    expect(value("MAP", ["a", "x", "b"], grades, 2)).toBeCloseTo((1 + 2 / 3) / 2, 14);
    expect(value("recall@2", ["a", "b", "d"], grades)).toBeCloseTo(2 / 3, 14);
    expect(value("success@1", ["c", "a"], grades)).toBe(0);
    expect(value("success@2", ["c", "a"], grades)).toBe(1);
    expect(value("precision@5", ["a", "b"], grades)).toBeCloseTo(2 / 5, 14);
  });

  it("count a query without relevant documents as 0, and leave it out on request", () => {
    const qrels = new Map([
      ["q1", new Map([["a", 1]])],
      ["q2", new Map([["a", 0]])],
      ["q3", new Map([["a", 1]])],
    ]);
    const rankings = new Map([
      ["q1", ["a"]],
      ["q2", ["a"]],
      ["elsewhere", ["a"]],
    ]);
    const mean = (over: "retrieved" | "judged" | "answerable") =>
      evaluate(rankings, qrels, ["nDCG@10"], { over }).mean["nDCG@10"];
    expect(mean("retrieved")).toBe(1 / 2);
    expect(mean("judged")).toBe(1 / 3);
    expect(mean("answerable")).toBe(1 / 2);
  });

  it("break ties by document id, descending in bytes, after rounding scores to single precision", () => {
    expect(
      trecOrder([
        { id: "a", score: 1 },
        { id: "b", score: 1 },
        { id: "c", score: 2 },
      ]),
    ).toEqual(["c", "b", "a"]);
    expect(
      trecOrder([
        { id: "a", score: 1.00000002 },
        { id: "b", score: 1.00000001 },
      ]),
    ).toEqual(["b", "a"]);
    expect(
      trecOrder([
        { id: "a", score: 1.0000002 },
        { id: "b", score: 1 },
      ]),
    ).toEqual(["a", "b"]);
    // U+1F600 is larger than U+FF21 in UTF-8, smaller in UTF-16.
    expect(
      trecOrder([
        { id: "\uff21", score: 1 },
        { id: "\u{1f600}", score: 1 },
      ]),
    ).toEqual(["\u{1f600}", "\uff21"]);
  });

  it("do not depend on the order of the file", () => {
    const entry = fc.record({ id: fc.string({ minLength: 1, maxLength: 3 }), score: fc.constantFrom(1, 1.5, 2, -3) });
    fc.assert(
      fc.property(fc.uniqueArray(entry, { selector: ({ id }) => id }), fc.integer(), (entries, seed) => {
        const turned =
          entries.length > 0
            ? entries.slice(seed % entries.length).concat(entries.slice(0, seed % entries.length))
            : [];
        expect(trecOrder(turned)).toEqual(trecOrder(entries));
      }),
    );
  });

  it("lie in [0, 1], reach 1 at the ideal ranking, and never fall when a relevant document moves up", () => {
    const grades = fc.dictionary(fc.constantFrom(..."abcdefghij"), fc.integer({ min: 0, max: 3 }), { minKeys: 1 });
    const names = ["nDCG@5", "nDCG", "MRR@10", "MAP", "recall@5", "success@3"];
    fc.assert(
      fc.property(
        grades,
        fc.shuffledSubarray([..."abcdefghijkl"], { minLength: 2 }),
        fc.nat(),
        (judged, ranking, at) => {
          const i = 1 + (at % (ranking.length - 1));
          const [above, below] = [ranking[i - 1]!, ranking[i]!];
          const better = ranking.with(i - 1, below).with(i, above);
          const raises = (judged[below] ?? 0) > (judged[above] ?? 0);
          for (const name of names) {
            const score = value(name, ranking, judged);
            expect(score).toBeGreaterThanOrEqual(0);
            expect(score).toBeLessThanOrEqual(1 + 1e-12);
            if (raises) expect(value(name, better, judged)).toBeGreaterThanOrEqual(score - 1e-12);
          }
          const ideal = Object.keys(judged).sort((a, b) => judged[b]! - judged[a]!);
          if (Object.values(judged).some((grade) => grade > 0))
            expect(value("nDCG@5", ideal, judged)).toBeCloseTo(1, 12);
        },
      ),
    );
  });

  it("refuse an unknown metric, a document ranked twice, and rankings of other queries", () => {
    const qrels = new Map([["q", new Map([["a", 1]])]]);
    expect(() => parseMeasure("ndgc@10")).toThrow(/Expected a metric such as nDCG@1/);
    expect(() => parseMeasure("nDCG@0")).toThrow(/Expected a metric/);
    expect(() => evaluate(new Map([["q", ["a", "a"]]]), qrels)).toThrow(/every document once .* query q/);
    expect(() => evaluate(new Map([["p", ["a"]]]), qrels)).toThrow(/none in common/);
    expect(STANDARD_MEASURES.map((name) => parseMeasure(name).name)).toEqual(STANDARD_MEASURES);
  });

  const dl21 = join(import.meta.dirname, "..", "..", "shared", "data", "eval", "trec-dl-21");
  it.skipIf(!existsSync(dl21))(
    "give the published trec_eval figures of TREC DL 2021 (skipped without ../shared)",
    async () => {
      const qrels = await readSplit(dl21, "test.full");
      const figures = (rankings: Map<string, string[]>): string[] => [
        evaluate(rankings, qrels, ["nDCG@10"], { over: "judged" }).mean["nDCG@10"]!.toFixed(4),
        ...["MAP", "MRR@100", "recall@100"].map((name) =>
          evaluate(rankings, qrels, [name], { over: "judged", relevanceLevel: 2 }).mean[name]!.toFixed(4),
        ),
      ];
      // Anserini's regression pages, trec_eval -c [-l 2] on the first 100: SPLADE++ ED, then BM25. The stored BM25 run has
      // scores of four decimals and so more ties than the original; its order of lines is the original ranking, except for
      // one tie or two (published: MAP .1357).
      const splade = await readRun(join(dl21, "runs", "splade.test.trec"));
      expect(figures(trecRankings(splade))).toEqual(["0.6846", "0.3328", "0.8289", "0.5619"]);
      const bm25 = await readRun(join(dl21, "runs", "bm25.test.trec"));
      const inOrder = new Map([...bm25].map(([query, entries]) => [query, entries.map(({ id }) => id)]));
      expect(figures(inOrder)).toEqual(["0.4458", "0.1358", "0.5060", "0.3261"]);
    },
  );
});

describe("significance", () => {
  it("gives SciPy's paired t-test and incomplete beta function", () => {
    const { a, b, p } = expected.tTest;
    expect(pairedComparison(a, b).tTestP).toBeCloseTo(p, 10);
    for (const [x, alpha, beta, cdf] of expected.beta) expect(regularizedBeta(x, alpha, beta)).toBeCloseTo(cdf, 10);
  });

  it("repeats with the seed, and is antisymmetric", () => {
    const { a, b } = expected.tTest;
    const one = pairedComparison(a, b, { seed: 7, resamples: 2000 });
    expect(pairedComparison(a, b, { seed: 7, resamples: 2000 })).toEqual(one);
    const other = pairedComparison(b, a, { seed: 7, resamples: 2000 });
    expect(other.difference).toBeCloseTo(-one.difference, 12);
    expect(other.interval[0]).toBeCloseTo(-one.interval[1], 12);
    expect(other.randomisationP).toBeCloseTo(one.randomisationP, 12);
  });

  it("finds nothing between equal runs and something between runs that always differ", () => {
    const run = [0.1, 0.5, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.5];
    const equal = pairedComparison(run, run, { resamples: 1000 });
    expect(equal).toMatchObject({ difference: 0, interval: [0, 0], randomisationP: 1, tTestP: 1 });
    const better = pairedComparison(
      run.map((x, i) => x + 0.1 + i * 0.001),
      run,
      { resamples: 4000 },
    );
    expect(better.interval[0]).toBeGreaterThan(0);
    // All ten differences have one sign: 2 of 2^10 sign patterns are as extreme.
    expect(better.randomisationP).toBeCloseTo(2 / 1024, 2);
    expect(better.tTestP).toBeLessThan(1e-6);
  });

  it("refuses runs of different lengths", () => {
    expect(() => pairedComparison([1], [])).toThrow(/same queries, at least one, got 1 and 0/);
  });
});
