/**
 * Evaluation and calibration end to end: the real command line on a small data set with a tiny model.
 */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, describe, expect, it, vi } from "vitest";
import { addCertificates, assertCanHold } from "../lib/certify/write.js";
import { lock } from "../lib/cli/lock.js";
import type { Report } from "../lib/cli/report.js";
import { readSplit } from "../lib/eval/beir.js";
import { evaluate, trecRankings } from "../lib/eval/metrics.js";
import { readRun } from "../lib/eval/trec-run.js";
import { Reranker } from "../lib/index.js";
import { makeBeir } from "./fixtures/beir.js";
import { matryoshka, start } from "./fixtures/cli.js";
import { makeModel } from "./fixtures/make-model.js";

const model = makeModel();
const beir = makeBeir();
/** Enough queries to certify α = 0.1, and enough for a run to be killed in. */
const some = makeBeir({ queries: 100, documents: 200, candidates: 12, seed: 2 });
const many = makeBeir({ queries: 400, documents: 300, candidates: 15, seed: 3 });
/** A store is for one process at a time, so every test has its own. */
let stores = 0;
afterAll(() => {
  model.remove();
  beir.remove();
  some.remove();
  many.remove();
});

const on = (directory: string) => [
  "--model",
  directory,
  "--dtype",
  "f32",
  "--threads",
  "1",
  "--store",
  join(beir.directory, `store-${stores++}`),
];
const evaluateHere = (...more: string[]) =>
  matryoshka(["eval", ...on(model.directory), "--data", beir.directory, "--timed-queries", "0", ...more]);

/** A copy of the model that a test may write a certificate into. */
function copyOfModel(name: string): string {
  const directory = join(beir.directory, name);
  mkdirSync(directory);
  for (const file of readdirSync(model.directory)) copyFileSync(join(model.directory, file), join(directory, file));
  return directory;
}
const certificates = (directory: string) =>
  JSON.parse(readFileSync(join(directory, "matryoshka.json"), "utf8")) as {
    exitLayers: number[];
    provenance: unknown;
    certificates?: { kind: string; k: number; alpha: number; delta: number | null; groups?: object }[];
  };

describe.concurrent("eval", { timeout: 180_000 }, () => {
  it("prints one object with every depth and every rule", async () => {
    const { code, stdout } = await evaluateHere(
      ...["--run", beir.run, "--exit", "layer:2", "--exit", "full", "--exit", "top-k:3"],
      ...["--exit", "confidence:1=0.6,3=0.9", "--timed-queries", "2", "--compare", beir.run, "--json"],
    );
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as Report;
    expect(report).toMatchObject({
      ...{ dataset: basename(beir.directory), split: "test", run: beir.run, model: model.directory, dtype: "f32" },
      ...{ maxLength: 128, queries: 6, pairs: 90, timedQueries: 2 },
      left: { notInRun: 0, unknownQueries: 0, unknownDocuments: 0 },
    });
    expect(report.depths.map(({ layer }) => layer)).toEqual([1, 2, 3, 4]);
    const compute = report.depths.map(({ computeFraction }) => computeFraction);
    expect(compute).toEqual(compute.toSorted((a, b) => a - b));
    expect(compute.at(-1)).toBe(1);
    for (const { pairsPerSecond, significance } of report.depths) {
      expect(pairsPerSecond).toBeGreaterThan(0);
      expect(significance).toMatchObject({ against: beir.run, measure: "nDCG@10", n: 6 });
    }
    const [layer, full, topK, confidence] = report.rules;
    expect(layer).toMatchObject({ rule: "layer:2", metrics: report.depths[1]!.metrics, exitHistogram: { 2: 90 } });
    expect(full).toMatchObject({ rule: "full", metrics: report.depths[3]!.metrics, exactTopK: 1, computeFraction: 1 });
    expect(topK).toMatchObject({ computeFraction: 1, k: 3, certificate: { holds: false, queries: 0 } });
    expect(Object.values(confidence!.exitHistogram).reduce((a, b) => a + b)).toBe(90);
    for (const { wallFraction } of report.rules) expect(wallFraction).toBeGreaterThan(0);
  });

  it("gives the figures that the run it writes has, and that the reranker's own results have", async () => {
    const out = join(beir.directory, "out.trec");
    const measures = ["nDCG@10", "MAP"];
    const { stdout } = await evaluateHere(
      ...["--run", beir.run, "--exit", "layer:2", "--output", out, "--measures", measures.join(","), "--json"],
    );
    const { rules, depths } = JSON.parse(stdout) as Report;
    const qrels = await readSplit(beir.directory, "test");
    const written = await readRun(out);
    expect(evaluate(trecRankings(written), qrels, measures).mean).toEqual(rules[0]!.metrics);
    expect(depths[1]!.metrics).toEqual(rules[0]!.metrics);
    await using reranker = await Reranker.open(model.directory, { dtype: "f32", threads: 1 });
    const list = JSON.parse(readFileSync(beir.pairs, "utf8").split("\n")[0]!);
    const corpus = new Map(
      readFileSync(join(beir.directory, "corpus.jsonl"), "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line))
        .map(({ _id, title, text }) => [_id, title ? `${title} ${text}` : text]),
    );
    const documents = list.documents.map(({ id }: { id: string }) => corpus.get(id)!);
    const { results } = await reranker.rerank(list.query, documents, { exit: { type: "layer", layer: 2 } });
    expect(written.get("q0")).toEqual(
      results.map(({ index, logit }) => ({ id: list.documents[index].id, score: logit })),
    );
  });

  it("prints a table, CSV or markdown with a line for each ranking", async () => {
    const [table, csv, markdown] = await Promise.all([
      ...["table", "csv", "markdown"].map((format) =>
        evaluateHere("--run", beir.run, "--depths", "2,4", "--exit", "layer:3", "--format", format),
      ),
    ]);
    expect(table!.stdout).toMatch(/first stage.*\nlayer 2.*\nlayer 4.*\nlayer:3/);
    expect(csv!.stdout).toMatch(/^ranking,compute,wall,pairs\/s,exact top k,of top k,nDCG@1,.*\nfirst stage,,,,,,0\./);
    expect(markdown!.stdout).toMatch(/\n\| --- \| --: \|.*\n\| first stage \|/);
  });

  it("takes candidates from several runs, one report each", async () => {
    const other = beir.file("other.trec", "q0 Q0 d1 1 3 x\nq0 Q0 d2 2 2 x\n");
    const { stdout, stderr } = await evaluateHere("--run", beir.run, "--run", other, "--depths", "4", "--json");
    const reports = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as Report);
    expect(reports.map(({ queries, left }) => [queries, left.notInRun])).toEqual([
      ...[
        [6, 0],
        [1, 5],
      ],
    ]);
    expect(stderr).toBe("");
  });

  it.each<[string, string, RegExp]>([
    ["a malformed line", "q0 Q0 d1 1 3 x\nq0 Q0 d2 2\n", /\.trec:2: expected six fields/],
    ["a score that is no number", "q0 Q0 d1 1 nan x\n", /\.trec:1: expected a finite number as score/],
    ["nothing", "", /\.trec: expected at least one result line, got an empty run/],
    ["only queries that nobody judged", "x Q0 d1 1 3 x\n", /expected at least one query that is judged, got 1 quer/],
    ["a document that the corpus lacks", "q0 Q0 d999 1 3 x\n", /corpus.jsonl has no document "d999"/],
  ])("refuses a run with %s", async (name, content, message) => {
    const run = beir.file(`${name.replaceAll(" ", "-")}.trec`, content);
    const { code, stderr } = await evaluateHere("--run", run);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^matryoshka: ERR_INVALID_ARGUMENT: /);
    expect(stderr).toMatch(message);
  });

  it("counts judgements of unknown queries and documents, and says so", async () => {
    const judged = readFileSync(join(beir.directory, "qrels", "test.tsv"), "utf8");
    beir.file("qrels/odd.tsv", `${judged}q999\td1\t1\nq0\td999\t1\n`);
    const { code, stdout, stderr } = await evaluateHere("--run", beir.run, "--split", "odd", "--depths", "4");
    expect(code).toBe(0);
    expect(stdout).toMatch(/6 queries, 90 pairs/);
    expect(stderr).toMatch(/1 judged queries are not in queries.jsonl\n1 judged documents are not in corpus.jsonl/);
    const unknown = await evaluateHere("--run", beir.run, "--split", "tset");
    expect(unknown.stderr).toMatch(/expected a split out of .*test, got "tset"/);
  });

  it("goes on where a killed run stopped, with the figures of one that was not", async () => {
    const own = join(many.directory, "store");
    const args = [
      "eval",
      ...on(model.directory).slice(0, -1),
      own,
      "--data",
      many.directory,
      "--run",
      many.run,
      "--timed-queries",
      "0",
    ];
    const lines = () => {
      const file = existsSync(own) ? readdirSync(own).find((name) => name.endsWith(".jsonl")) : undefined;
      return file ? readFileSync(join(own, file), "utf8").split("\n").length - 2 : 0;
    };
    const child = start(...args);
    const closed = once(child, "close");
    while (lines() < 10 && child.exitCode === null) await setTimeout(2);
    child.kill("SIGKILL");
    await closed;
    const before = lines();
    expect(before).toBeGreaterThanOrEqual(10);
    expect(before).toBeLessThan(400);
    const resumed = await matryoshka([...args, "--json"]);
    expect(resumed.stderr).toMatch(new RegExp(`^${before} of 400 queries are in `));
    expect(lines()).toBe(400);
    rmSync(own, { recursive: true });
    expect((await matryoshka([...args, "--json"])).stdout).toBe(resumed.stdout);
  });
});

describe.concurrent("calibrate", { timeout: 180_000 }, () => {
  it("writes certificates that the reranker then keeps, says them in words, and leaves the rest of the file", async () => {
    const directory = copyOfModel("certified");
    const options = on(directory);
    const args = ["calibrate", ...options, "--pairs", some.pairs, "--alpha", "0.1"];
    const first = await matryoshka([...args, "--k", "3,5"]);
    expect(first).toMatchObject({ code: 0, stderr: expect.stringContaining("Written to matryoshka.json") });
    expect(first.stdout).toMatch(
      /the first 3 results are exactly what full depth gives, except in at most 10 % of quer/,
    );
    expect(first.stdout).toMatch(/the first 5 results/);
    const before = certificates(directory);
    expect(before).toMatchObject({ exitLayers: [1, 2, 3, 4], provenance: { base: "random" } });
    expect(before.certificates!.map(({ k }) => k)).toEqual([3, 5]);

    const list = JSON.parse(readFileSync(some.pairs, "utf8").split("\n")[0]!);
    await using reranker = await Reranker.open(directory, { dtype: "f32", threads: 1 });
    const exit = { type: "top-k", k: 5 } as const;
    expect((await reranker.rerank(list.query, list.documents, { exit })).stats.certificate).toMatchObject({
      holds: true,
    });
    await using other = await Reranker.open(directory, { dtype: "bf16", threads: 1 });
    expect((await other.rerank(list.query, list.documents, { exit })).stats.certificate).toMatchObject({
      ...{ holds: false, reasons: expect.arrayContaining([expect.stringMatching(/made with dtype f32/)]) },
    });

    // Another δ for the same promise takes the old one's place.
    const again = await matryoshka([...args, "--k", "5", "--delta", "none", "--json"]);
    expect(JSON.parse(again.stdout)).toMatchObject({
      written: true,
      certificates: [{ k: 5, delta: null }],
      refused: [],
    });
    expect(certificates(directory).certificates!.map(({ k, delta }) => [k, delta])).toEqual([
      ...[
        [3, 0.05],
        [5, null],
      ],
    ]);
    expect(readdirSync(directory).filter((name) => name.endsWith(".tmp"))).toEqual([]);

    // A promise of recall stands beside the exact one.
    const recall = await matryoshka([...args, "--k", "3", "--promise", "recall"]);
    expect(recall.stdout).toMatch(/at least 90 % of full depth's first 3 results, on the mean of queries, come first/);
    expect(certificates(directory).certificates!.map(({ kind, k }) => [kind, k])).toEqual([
      ...[
        ["exact-top-k", 3],
        ["exact-top-k", 5],
        ["recall-top-k", 3],
      ],
    ]);

    // And eval replays what was certified, for every list it was made for.
    const { stdout } = await matryoshka([
      ...["eval", ...options, "--data", some.directory, "--run", some.run, "--depths", "4"],
      ...["top-k:3:0.1", "budget:0.9:3", "recall-top-k:3:0.1", "budget-loss:0.3:3"].flatMap((rule) => ["--exit", rule]),
      ...["--timed-queries", "0", "--json"],
    ]);
    const [topK, budget, most, loss] = (JSON.parse(stdout) as Report).rules;
    expect(loss!.certificate).toMatchObject({
      ...{ holds: true, queries: 100, statement: expect.stringMatching(/drop of nDCG@3.*at most 0.3,/) },
    });
    expect(most).toMatchObject({
      k: 3,
      certificate: { holds: true, statement: expect.stringContaining("at least 90 %") },
    });
    expect(most!.recallTopK).toBeGreaterThan(0.8);
    expect(most!.computeFraction).toBeLessThanOrEqual(topK!.computeFraction);
    expect(topK).toMatchObject({ k: 3, certificate: { holds: true, queries: 100 } });
    expect(budget!.certificate).toMatchObject({ holds: false });
    expect(topK!.computeFraction).toBeLessThanOrEqual(1);
  });

  it("reads a BEIR directory, groups by a field of the queries, and writes nothing on a dry run", async () => {
    const { code, stdout } = await matryoshka([
      ...[
        "calibrate",
        ...on(model.directory),
        "--data",
        some.directory,
        "--run",
        some.run,
        "--k",
        "3",
        "--alpha",
        "0.1",
      ],
      ...["--group-by", "team", "--widths", "layer", "--dry-run", "--json"],
    ]);
    expect(code).toBe(0);
    const { written, certificates: made } = JSON.parse(stdout);
    expect(written).toBe(false);
    expect(Object.keys(made[0].groups).sort()).toEqual(["even", "odd"]);
    expect(made[0].groups.even.n + made[0].groups.odd.n).toBe(made[0].n);
    expect(made[0].widths.every(({ trend }: { trend: number }) => trend === 0)).toBe(true);
    expect(certificates(model.directory).certificates).toBeUndefined();
  });

  it("says how many queries it lacks, and writes what could be certified", async () => {
    const directory = copyOfModel("lacking");
    const { code, stderr } = await matryoshka([
      ...["calibrate", ...on(directory), "--pairs", some.pairs, "--k", "3", "--alpha", "0.1,0.001"],
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /ERR_NOT_CERTIFIABLE: k = 3, α = 0.001: This target needs at least 2995 distinct.*add about/,
    );
    expect(certificates(directory).certificates!.map(({ alpha }) => alpha)).toEqual([0.1]);
  });

  it.each<[string, string[], RegExp]>([
    ["k that is no less than the candidates", ["--k", "15"], /longest has 15.*smaller k or more candidates/],
    ["k that is no whole number", ["--k", "1.5"], /Expected k as a whole number from 1 to 1024, got 1.5/],
    ["a field that no query has", ["--group-by", "tenant"], /pairs.jsonl:1: expected a group under tenant/],
  ])("refuses %s", async (_, more, message) => {
    const { code, stderr } = await matryoshka(["calibrate", ...on(model.directory), "--pairs", beir.pairs, ...more]);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });

  it.each<[string, string, RegExp]>([
    ["no documents", '{"query": "a", "documents": []}\n', /:1: expected a list with at least one document/],
    ["a blank query", '{"query": " ", "documents": ["a"]}\n', /ERR_EMPTY_QUERY: .*:1: expected a query/],
    ["an id twice", '{"id": 1, "query": "a", "documents": ["a"]}\n'.repeat(2), /:2: expected every query id once/],
    ["nothing at all", "\n", /Expected at least one line/],
  ])("refuses lines with %s", async (name, content, message) => {
    const { code, stderr } = await matryoshka([
      ...["calibrate", ...on(model.directory), "--pairs", beir.file(`${name.replaceAll(" ", "-")}.jsonl`, content)],
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });

  it("takes many files, however long their names are together", async () => {
    const line = (i: number) => JSON.stringify({ query: `w${i}`, documents: ["w1", "w2 w3", "w4", "w5"] });
    const files = Array.from({ length: 6 }, (_, i) => [
      "--pairs",
      beir.file(`${"traffic-".repeat(8)}${i}.jsonl`, line(i)),
    ]);
    const { code, stderr } = await matryoshka([
      "calibrate",
      ...on(copyOfModel("many-files")),
      ...files.flat(),
      "--k",
      "2",
    ]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/ERR_NOT_CERTIFIABLE/);
  });

  it("refuses a checkpoint that has no exit heads to certify, and makes it none", async () => {
    const directory = copyOfModel("classifier");
    rmSync(join(directory, "matryoshka.json"));
    await expect(assertCanHold(directory)).rejects.toMatchObject({
      ...{ code: "ERR_MODEL_INVALID", message: expect.stringMatching(/plain sequence classifier/) },
    });
    await expect(addCertificates(directory, [])).rejects.toMatchObject({ code: "ERR_MODEL_INVALID" });
    expect(existsSync(join(directory, "matryoshka.json"))).toBe(false);
  });

  it("keeps a store to one process at a time, and takes it over from a killed one", async () => {
    const path = beir.file("mine", "");
    const held = lock(path);
    expect(() => lock(path)).toThrow(/process \d+ is writing to it. Wait for it, or choose another --store/);
    held.release();
    const { pid } = spawnSync(process.execPath, ["--version"]);
    beir.file("mine.lock", String(pid));
    lock(path).release();
    // While this one was looking another took the stale file's place.
    beir.file("mine.lock", String(pid));
    const kill = vi.spyOn(process, "kill").mockImplementationOnce(() => {
      beir.file("mine.lock", String(process.ppid));
      throw new Error("no such process");
    });
    expect(() => lock(path)).toThrow(`process ${process.ppid} is writing to it`);
    kill.mockRestore();
    expect(readFileSync(`${path}.lock`, "utf8")).toBe(String(process.ppid));
    rmSync(`${path}.lock`);
    // In a container whoever was killed had this process's own number, and it never held the file.
    beir.file("mine.lock", String(process.pid));
    lock(path).release();
    expect(existsSync(`${path}.lock`)).toBe(false);
    // Another process has the file and has not yet said who it is.
    beir.file("mine.lock", "");
    expect(() => lock(path)).toThrow(/If no matryoshka is running, delete .*mine\.lock/);
    rmSync(`${path}.lock`);
  });
});
