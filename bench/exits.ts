/**
 * Exit rules on every evaluation set: compute, nDCG@10 and exactness of each, replayed from stored scores, with the
 * certificates calibrated on the pool of `certify.ts`. Prints a markdown table and writes bench/results/exits.json.
 *
 * Run: npm run bench:exits [-- --dtype f32] [--queries N, as certify's] [--store DIR]. A killed run goes on.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parseExit } from "../dist/cli/exit.js";
import { depthReport, firstStage, ruleReport } from "../dist/cli/report.js";
import { fingerprint } from "../dist/fingerprint.js";
import { CALIBRATION_OPTIONS, calibrations } from "./certify.js";
import { machine } from "./machine.js";
import { evaluationSet, MAX_LENGTH, SETS, scored, withModel } from "./sets.js";

const LAYERS = [4, 6, 8, 12];
const sure = (threshold: number) =>
  `confidence:${[4, 5, 6, 7, 8, 9, 10, 11].map((l) => `${l}=${threshold}`).join(",")}`;
const RULES: Readonly<Record<string, string>> = {
  "top-k 10, α 1 % (δ none)": "top-k:10:0.01",
  "top-k 10, α 5 %": "top-k:10:0.05",
  "top-k 10, α 10 %": "top-k:10:0.1",
  "recall of 10, α 5 %": "recall-top-k:10:0.05",
  "budget .50": "budget:0.5:10",
  "budget .46": "budget:0.46:10",
  "budget .45": "budget:0.45:10",
  "budget .40": "budget:0.4:10",
  "budget .35": "budget:0.35:10",
  "loss .012": "budget-loss:0.012:10",
  "loss .015": "budget-loss:0.015:10",
  "loss .02": "budget-loss:0.02:10",
  "confidence > .90": sure(0.9),
  "confidence > .98": sure(0.98),
};

interface Row {
  readonly rule: string;
  /** Mean over queries of the share of full depth's FLOPs. */
  readonly compute: number;
  /** FLOPs of all the set's queries together. */
  readonly flops: number;
  readonly ndcg: number;
  /** Against full depth. */
  readonly change: number;
  readonly exactTop10: number;
  /** Mean share of full depth's first ten that come first. */
  readonly recallTop10: number;
}

const { values } = parseArgs({ options: CALIBRATION_OPTIONS });
await withModel(values, async (reranker, dtype) => {
  const { info } = reranker;
  const { made } = await calibrations(reranker, dtype, values.store, { queries: Number(values.queries) });
  const certificates = made.flatMap((each) => (each.feasible ? [each.certificate] : []));
  const conditions = { dtype, maxLength: MAX_LENGTH };
  const print = await fingerprint(info.directory, conditions);
  const found: { set: string; queries: number; pairs: number; bm25: number; rows: Row[] }[] = [];
  for (const name of SETS) {
    const { lists, qrels } = await evaluationSet(name);
    const set = await scored(reranker, lists, `${name}-${dtype}`, conditions, values.store);
    const judge = { qrels, measures: ["nDCG@10"] };
    const value = (metrics: Readonly<Record<string, number>>) => metrics["nDCG@10"]!;
    const full = value(depthReport(info.layers, set, judge, info, null).report.metrics);
    const replayed = (rule: string, words: string): Row => {
      const options = { words, exit: parseExit(words), certificates, fingerprint: print, wall: undefined };
      const { report, flops } = ruleReport(options, set, judge, info);
      const ndcg = value(report.metrics);
      return {
        ...{ rule, compute: report.computeFraction, flops, ndcg, change: ndcg - full },
        ...{ exactTop10: report.exactTopK, recallTop10: report.recallTopK },
      };
    };
    found.push({
      set: name,
      queries: lists.length,
      pairs: lists.reduce((sum, { documents }) => sum + documents.length, 0),
      bm25: value(firstStage(lists, judge).metrics),
      rows: [
        ...LAYERS.map((layer) => replayed(`layer ${layer}`, `layer:${layer}`)),
        ...Object.entries(RULES).map(([label, words]) => replayed(label, words)),
      ],
    });
  }
  const total = (pick: (rows: readonly Row[]) => number) => found.reduce((sum, { rows }) => sum + pick(rows), 0);
  const mean = (pick: (rows: readonly Row[]) => number) => total(pick) / found.length;
  const labels = found[0]!.rows.map(({ rule }) => rule);
  const means: Row[] = labels.map((rule, i) => ({
    ...{ rule, compute: mean((rows) => rows[i]!.compute), ndcg: mean((rows) => rows[i]!.ndcg) },
    flops: total((rows) => rows[i]!.flops),
    ...{ change: mean((rows) => rows[i]!.change) },
    ...{ exactTop10: mean((rows) => rows[i]!.exactTop10), recallTop10: mean((rows) => rows[i]!.recallTop10) },
  }));
  const everything = means.find(({ rule }) => rule === `layer ${info.layers}`)!.flops;
  const about = machine();
  const n = certificates[0]?.n;
  console.log(
    `${about.line}\n${info.backend}, up to ${MAX_LENGTH} tokens, BM25's top 100, k = 10, δ = 5 %, n = ${n}; each cell: compute, nDCG@10 (change), exact top 10, recall of it\n`,
  );
  const cell = ({ compute, ndcg, change, exactTop10, recallTop10 }: Row) =>
    `${compute.toFixed(2)}, ${ndcg.toFixed(3)} (${change > 0 ? "+" : ""}${change.toFixed(3)}), ${(100 * exactTop10).toFixed(0)} %, ${recallTop10.toFixed(3)}`;
  console.log(`| rule | ${found.map(({ set }) => set).join(" | ")} | mean | of all FLOPs |`);
  console.log(`|---|${"---|".repeat(found.length + 2)}`);
  labels.forEach((label, i) => {
    const share = (means[i]!.flops / everything).toFixed(3);
    console.log(
      `| ${label} | ${found.map(({ rows }) => cell(rows[i]!)).join(" | ")} | ${cell(means[i]!)} | ${share} |`,
    );
  });
  const report = {
    machine: about,
    date: new Date().toISOString().slice(0, 10),
    dtype,
    maxLength: MAX_LENGTH,
    certificates,
    sets: found,
    means,
  };
  writeFileSync(new URL("results/exits.json", import.meta.url), `${JSON.stringify(report, undefined, 1)}\n`);
});
