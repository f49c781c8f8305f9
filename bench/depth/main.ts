/**
 * Cost and quality against depth: every static depth and every exit rule at several settings, in FLOPs, in milliseconds
 * and in nDCG@10, and the expected cost beside the measured one. Writes bench/results/depth.json, depth.svg and
 * depth.html.
 *
 * Run: npm run bench:depth [-- --data BEIR_DIR --split test --run FILE.trec] [--dtype f32] [--queries 6] [--store DIR]
 * --queries says how many are timed; quality is of all. Without --data it runs on the demo's passages.
 */
import { parseArgs } from "node:util";
import { fingerprint } from "../../dist/fingerprint.js";
import { type Dtype, Reranker } from "../../dist/index.js";
import { readCertificates } from "../../dist/model-info.js";
import { machine } from "../machine.js";
import { MAX_LENGTH, scored } from "../sets.js";
import { writeJson, writeResult } from "../suites/results.js";
import { clock } from "./clock.js";
import { beir, demo } from "./lists.js";
import { type Absent, type Curve, type Point, page } from "./page.js";
import { type Conditions, type Replayed, replayed } from "./replayed.js";
import { K, nobodyStops, ruleLines } from "./rules.js";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    split: { type: "string", default: "test" },
    run: { type: "string" },
    dtype: { type: "string", default: "f32" },
    queries: { type: "string", default: "6" },
    store: { type: "string" },
  },
});
if ((values.data === undefined) !== (values.run === undefined)) throw new Error("--data and --run go together");
const data = values.data ? await beir(values.data, values.split, values.run!) : demo();
const dtype = values.dtype as Dtype;
await using reranker = await Reranker.open(undefined, { device: "cpu", dtype });
const { info } = reranker;
const conditions: Conditions = {
  certificates: await readCertificates(info.directory),
  fingerprint: await fingerprint(info.directory, { dtype, maxLength: MAX_LENGTH }),
  judge: { qrels: data.qrels, measures: ["nDCG@10"] },
  info,
};
const set = await scored(reranker, data.lists, `depth-${dtype}`, { dtype, maxLength: MAX_LENGTH }, values.store);

const some = Math.min(Number(values.queries), data.lists.length);
const timed = Array.from({ length: some }, (_, i) => Math.floor((i * data.lists.length) / some));
const timedSet = { layers: set.layers, lists: timed.map((i) => set.lists[i]!) };
const timedPairs = timedSet.lists.reduce((sum, { documents }) => sum + documents.length, 0);

/** Settings that cannot run, by rule and reason. */
const leftOut = new Map<string, Absent>();
const lines = ruleLines(info.exitLayers).map(({ name, settings }) => ({
  name,
  settings: settings.flatMap(([label, exit]) => {
    const [all, own] = [replayed(exit, set, conditions), replayed(exit, timedSet, conditions)];
    if (typeof all === "object" && typeof own === "object") return [{ label, exit, all, own }];
    const reason = String(typeof all === "string" ? all : own);
    const key = `${name}: ${reason}`;
    leftOut.set(key, { rule: name, settings: [...(leftOut.get(key)?.settings ?? []), label], reason });
    return [];
  }),
}));

const exits = lines.flatMap(({ settings }) => settings.map(({ exit }) => exit));
const [full, nobody, ...times] = await clock(
  reranker,
  timed.map((i) => data.lists[i]!),
  [{ type: "full" }, nobodyStops(info.exitLayers), ...exits],
);
/** By layer, milliseconds where all of the timed documents stop there: Σ_{l≤i} cost_l. */
const depths = new Map(exits.flatMap((exit, i) => (exit.type === "layer" ? [[exit.layer, times[i]!] as const] : [])));

/** C = Σ_i P(exit at i) · Σ_{l≤i} cost_l in milliseconds, from what the static depths took. */
function expected({ exitHistogram }: Replayed): number {
  const stops = Object.entries(exitHistogram);
  return stops.reduce((sum, [layer, documents]) => sum + (documents / timedPairs) * depths.get(Number(layer))!, 0);
}

const milliseconds = new Map(exits.map((exit, i) => [exit, times[i]!]));
const curves: Curve[] = lines
  .filter(({ settings }) => settings.length > 0)
  .map(({ name, settings }) => ({
    name,
    points: settings.map(({ label, exit, all, own }): Point => {
      const ms = milliseconds.get(exit)!;
      return {
        ...{ label, ...all, timedCompute: own.compute, wall: ms / full! },
        ...{ expectedMilliseconds: expected(own) / timedPairs, millisecondsPerPair: ms / timedPairs },
        pairsPerSecond: (1e3 * timedPairs) / ms,
      };
    }),
  }));

const pairs = data.lists.reduce((sum, { documents }) => sum + documents.length, 0);
const about = `${data.name}: ${data.lists.length} queries, ${pairs} pairs, ${some} of the queries timed; ${info.backend}; k = ${K}`;
const overhead = `Every exit peeked at and nobody stopped: ${(100 * (nobody! / full! - 1)).toFixed(1)} % more time than without exits.`;
console.log(`${machine().line}\n${about}`);
for (const each of leftOut.values()) console.log(`left out: ${page.absent(each)}`);
console.log(page.table(curves));
console.log(overhead);
writeJson("depth", {
  ...{ about, dtype, k: K, queries: data.lists.length, pairs, timedQueries: some, timedPairs },
  ...{ fullMilliseconds: full, nobodyStopsMilliseconds: nobody, leftOut: [...leftOut.values()], curves },
});
const pictures = page.pictures(curves);
writeResult("depth.svg", pictures[0]!);
writeResult(
  "depth.html",
  page.html({ machine: machine().line, about, overhead, leftOut: [...leftOut.values()], pictures, curves }),
);
