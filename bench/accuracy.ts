/**
 * What bf16 and int8 change on real data, against f32: nDCG@10, and the share of f32's top 10 that stays in the top 10.
 * The bounds are what `dtype: "auto"` may choose by; exits with 1 where a dtype misses its own.
 *
 * Run: npm run bench:accuracy [-- --store DIR]. Reads BEIR directories under ../shared/data/eval; a killed run goes on.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { table } from "../dist/cli/output.js";
import { evaluate } from "../dist/eval/metrics.js";
import { type Dtype, Reranker } from "../dist/index.js";
import { machine } from "./machine.js";
import { kept, rankings } from "./rankings.js";
import { type EvaluationSet, evaluationSet, MAX_LENGTH, missingSets, scored } from "./sets.js";

const NAMES = ["trec-dl-21", "nfcorpus", "scifact"] as const;
const K = 10;
/** Largest change of mean nDCG@10, and least share of the top 10 kept. */
const BOUNDS = { bf16: { ndcg: 0.001, kept: 0.99 }, int8: { ndcg: 0.003, kept: 0.97 } } as const;

function ndcg({ lists, qrels }: EvaluationSet, orders: readonly Uint32Array[]): number {
  const named = lists.map(
    ({ query, documents }, i) => [query, Array.from(orders[i]!, (d) => documents[d]!.id)] as const,
  );
  return evaluate(new Map(named), qrels, ["nDCG@10"]).mean["nDCG@10"]!;
}

const { values } = parseArgs({ options: { store: { type: "string" } } });
const missing = missingSets();
if (missing) {
  console.log(`skipped: ${missing}`);
} else {
  const sets = await Promise.all(NAMES.map(evaluationSet));
  const orders = async (dtype: Dtype): Promise<Uint32Array[][]> => {
    await using reranker = await Reranker.open(undefined, { device: "cpu", dtype });
    const found: Uint32Array[][] = [];
    for (const { name, lists } of sets)
      found.push(
        rankings(await scored(reranker, lists, `${name}-${dtype}`, { dtype, maxLength: MAX_LENGTH }, values.store)),
      );
    return found;
  };
  const reference = await orders("f32");
  const rows: {
    dtype: string;
    set: string;
    queries: number;
    pairs: number;
    ndcg: number;
    change: number;
    kept: number;
  }[] = [];
  let missed = false;
  for (const [dtype, bound] of Object.entries(BOUNDS) as [Dtype, { ndcg: number; kept: number }][]) {
    const own = await orders(dtype);
    const start = rows.length;
    sets.forEach((set, i) => {
      const [value, f32] = [ndcg(set, own[i]!), ndcg(set, reference[i]!)];
      const pairs = set.lists.reduce((sum, { documents }) => sum + documents.length, 0);
      const { name, lists } = set;
      rows.push({
        ...{ dtype, set: name, queries: lists.length, pairs },
        ...{ ndcg: value, change: value - f32, kept: kept(own[i]!, reference[i]!, K) },
      });
    });
    const added = rows.slice(start);
    const total = (key: "queries" | "pairs") => added.reduce((sum, row) => sum + row[key], 0);
    const mean = (key: "ndcg" | "change") => added.reduce((sum, row) => sum + row[key], 0) / added.length;
    const all = { queries: total("queries"), pairs: total("pairs"), ndcg: mean("ndcg"), change: mean("change") };
    rows.push({ dtype, set: "all", ...all, kept: kept(own.flat(), reference.flat(), K) });
    const { change, kept: share } = rows.at(-1)!;
    missed ||= Math.abs(change) > bound.ndcg || share < bound.kept;
  }
  const about = machine();
  console.log(`${about.line}\nagainst f32, full depth, k = ${K}, up to ${MAX_LENGTH} tokens, BM25's top 100`);
  console.log(
    table([
      ["dtype", "set", "queries", "pairs", "nDCG@10", "change", "top 10 kept"],
      ...rows.map((row) => [
        ...[row.dtype, row.set, row.queries, row.pairs, row.ndcg.toFixed(4), row.change.toFixed(4)],
        `${(100 * row.kept).toFixed(2)} %`,
      ]),
    ]),
  );
  const file = new URL("results/accuracy.json", import.meta.url);
  writeFileSync(
    file,
    `${JSON.stringify({ machine: about, date: new Date().toISOString().slice(0, 10), maxLength: MAX_LENGTH, bounds: BOUNDS, rows }, undefined, 1)}\n`,
  );
  process.exitCode = missed ? 1 : 0;
}
