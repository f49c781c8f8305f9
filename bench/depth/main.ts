/**
 * Cost and quality against depth: every static depth and every exit rule at several settings, in FLOPs, in milliseconds
 * and in nDCG@10. Writes bench/results/depth.json, depth.svg and depth.html.
 *
 * Run: npm run bench:depth [-- --data BEIR_DIR --split test --run FILE.trec] [--dtype f32] [--queries 10] [--store DIR]
 */
import { parseArgs } from "node:util";
import { assess } from "../../dist/certify/assess.js";
import { ruleReport } from "../../dist/cli/report.js";
import { planExit } from "../../dist/exit-plan.js";
import { fingerprint } from "../../dist/fingerprint.js";
import { type Dtype, type Exit, Reranker } from "../../dist/index.js";
import { readCertificates } from "../../dist/model-info.js";
import { svg } from "../chart.js";
import { machine } from "../machine.js";
import { MAX_LENGTH, scored } from "../sets.js";
import { measureAsync } from "../suites/measure.js";
import { writeJson, writeResult } from "../suites/results.js";
import { beir, demo } from "./lists.js";
import { type Curve, type Point, page } from "./page.js";

const K = 10;
const { values } = parseArgs({
  options: {
    data: { type: "string" },
    split: { type: "string", default: "test" },
    run: { type: "string" },
    dtype: { type: "string", default: "f32" },
    queries: { type: "string", default: "10" },
    store: { type: "string" },
  },
});
const data = values.data ? await beir(values.data, values.split, values.run!) : demo();
const dtype = values.dtype as Dtype;
await using reranker = await Reranker.open(undefined, { dtype });
const { info } = reranker;
const conditions = { dtype, maxLength: MAX_LENGTH };
const certificates = await readCertificates(info.directory);
const print = await fingerprint(info.directory, conditions);
const set = await scored(reranker, data.lists, `depth-${dtype}`, conditions, values.store);
const judge = { qrels: data.qrels, measures: ["nDCG@10"] };

const early = info.exitLayers.filter((layer) => layer >= 4 && layer < info.layers);
const confidence = (over: "pair" | "list", threshold: number): Exit => ({
  ...{ type: "confidence", over },
  thresholds: Object.fromEntries(early.map((layer) => [layer, threshold])),
});
const rules: readonly { name: string; settings: readonly (readonly [label: string, exit: Exit])[] }[] = [
  { name: "layer", settings: info.exitLayers.map((layer) => [`layer ${layer}`, { type: "layer", layer }]) },
  {
    name: "top-k, certified",
    settings: [0.1, 0.05, 0.01].map((alpha) => [`α = ${alpha}`, { type: "top-k", k: K, alpha }]),
  },
  {
    name: "budget",
    settings: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8].map((compute) => [`${compute}`, { type: "budget", k: K, compute }]),
  },
  { name: "confidence, pair", settings: [0.8, 0.9, 0.95, 0.98, 0.995].map((t) => [`> ${t}`, confidence("pair", t)]) },
  { name: "confidence, list", settings: [0.2, 0.4, 0.6, 0.8].map((t) => [`> ${t}`, confidence("list", t)]) },
];

const some = Math.min(Number(values.queries), data.lists.length);
const timed = Array.from({ length: some }, (_, i) => data.lists[Math.floor((i * data.lists.length) / some)]!);
const timedPairs = timed.reduce((sum, { documents }) => sum + documents.length, 0);

/** Milliseconds that the engine takes for the timed queries, one after the other. */
async function milliseconds(exit: Exit): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  await measureAsync(
    async () => {
      let sum = 0;
      for (const { text, documents } of timed) {
        const texts = documents.map((document) => document.text);
        sum += (await reranker.rerank(text, texts, { exit, maxLength: MAX_LENGTH })).stats.milliseconds.engine;
      }
      best = Math.min(best, sum);
    },
    { maxTime: 1, minSamples: 2 },
  );
  return best;
}

/** Thresholds of 1 stop nobody, but every exit is peeked at. */
const nobody = await milliseconds(confidence("pair", 1));
const full = await milliseconds({ type: "full" });
async function point(label: string, exit: Exit): Promise<Point | string> {
  let report: ReturnType<typeof ruleReport>["report"];
  try {
    ({ report } = ruleReport(
      { words: label, exit, certificates, fingerprint: print, wall: undefined },
      set,
      judge,
      info,
    ));
  } catch (error) {
    return (error as Error).message;
  }
  const { certificate, computeFraction, exactTopK, exitHistogram, metrics } = report;
  if (exit.type === "top-k" && !certificate?.holds) return certificate?.reasons[0] ?? "no certificate";
  const candidates = Math.max(...data.lists.map(({ documents }) => documents.length));
  const { rule } = planExit(exit, certificates, { ...print, candidates });
  const time = await milliseconds(exit);
  return {
    ...{ label, compute: computeFraction, expectedCost: assess(set, rule, K, info).expectedCost },
    ...{ wall: time / full, millisecondsPerPair: time / timedPairs, pairsPerSecond: (1e3 * timedPairs) / time },
    ...{ ndcg: metrics["nDCG@10"]!, exactTopK, exitHistogram },
  };
}

const curves: Curve[] = [];
for (const { name, settings } of rules) {
  const points: Point[] = [];
  for (const [label, exit] of settings) {
    const found = await point(label, exit);
    if (typeof found === "string") console.log(`left out: ${name} ${label}: ${found}`);
    else points.push(found);
  }
  if (points.length > 0) curves.push({ name, points });
}
const pairs = data.lists.reduce((sum, { documents }) => sum + documents.length, 0);
const about = `${data.name}: ${data.lists.length} queries, ${pairs} pairs, ${some} of the queries timed; ${info.backend}; k = ${K}, δ = 5 %`;
console.log(`${machine().line}\n${about}`);
console.log(page.table(curves));
console.log(
  `every exit peeked at, nobody stopped: ${(100 * (nobody / full - 1)).toFixed(1)} % more time than without exits`,
);
writeJson("depth", {
  about,
  dtype,
  k: K,
  queries: data.lists.length,
  pairs,
  timedQueries: some,
  fullMilliseconds: full,
  nobodyStopsMilliseconds: nobody,
  curves,
});
const picture = svg({
  ...{ title: "Quality against cost", x: "share of full depth's FLOPs", y: "nDCG@10", from: page.floor(curves) },
  series: curves.map(({ name, points }) => ({
    name,
    points: points.map(({ compute, ndcg }) => [compute, ndcg] as const),
  })),
});
const clock = svg({
  ...{ title: "Wall clock against FLOPs", x: "share of full depth's FLOPs", y: "share of full depth's time" },
  series: curves.map(({ name, points }) => ({
    name,
    scattered: true,
    points: points.map(({ compute, wall }) => [compute, wall] as const),
  })),
});
writeResult("depth.svg", picture);
writeResult("depth.html", page.html({ machine: machine().line, about, pictures: [picture, clock], curves }));
