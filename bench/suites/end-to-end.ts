/**
 * Workload W through the public API: pairs and tokens a second, the latency of one query with 100 documents, threads, and
 * the straight line of cost against layers that early exit bends.
 */
import { table } from "../../dist/cli/output.js";
import { type Dtype, Reranker } from "../../dist/index.js";
import { svg } from "../../dist/report/chart.js";
import { percentile } from "../machine.js";
import { workload } from "../workload.js";
import { measureAsync } from "./measure.js";
import { writeResult } from "./results.js";

export async function endToEnd() {
  const pairs = workload().map(({ query, document }) => ({ query, document }));
  const documents = pairs.slice(0, 100).map(({ document }) => document);
  const rows: {
    dtype: string;
    threads: number;
    pairsPerSecond: number;
    tokensPerSecond: number;
    p50Ms100docs: number;
    p99Ms100docs: number;
  }[] = [];
  for (const dtype of ["f32", "bf16", "int8"] as const satisfies readonly Dtype[])
    for (const threads of [1, 2]) {
      await using reranker = await Reranker.open(undefined, { device: "cpu", dtype, threads });
      const layers = [reranker.info.layers];
      const { stats } = await reranker.score(pairs, { layers });
      const { seconds } = await measureAsync(() => reranker.score(pairs, { layers }));
      const latencies: number[] = [];
      for (let i = 0; i < 20; i++) {
        const start = performance.now();
        await reranker.rerank(pairs[0]!.query, documents);
        latencies.push(performance.now() - start);
      }
      rows.push({
        ...{ dtype, threads, pairsPerSecond: pairs.length / seconds, tokensPerSecond: stats.tokens / seconds },
        ...{ p50Ms100docs: percentile(latencies, 50), p99Ms100docs: percentile(latencies, 99) },
      });
    }
  console.log(
    table([
      ["dtype", "threads", "pairs/s", "tokens/s", "100 documents p50 ms", "p99 ms"],
      ...rows.map((row) => [
        row.dtype,
        row.threads,
        row.pairsPerSecond.toFixed(1),
        row.tokensPerSecond.toFixed(0),
        row.p50Ms100docs.toFixed(0),
        row.p99Ms100docs.toFixed(0),
      ]),
    ]),
  );
  const depths = await depthLine(pairs);
  return { pairs: pairs.length, tokenizationIncluded: true, rows, depths };
}

/** Everybody to layer 1 … 12, on two threads. */
async function depthLine(pairs: readonly { query: string; document: string }[]) {
  const depths: { dtype: string; layer: number; millisecondsPerPair: number }[] = [];
  for (const dtype of ["f32", "bf16", "int8"] as const) {
    await using reranker = await Reranker.open(undefined, { device: "cpu", dtype });
    for (const layer of reranker.info.exitLayers) {
      const { seconds } = await measureAsync(() => reranker.score(pairs, { layers: [layer] }), {
        maxTime: 2,
        minSamples: 3,
      });
      depths.push({ dtype, layer, millisecondsPerPair: (1e3 * seconds) / pairs.length });
    }
  }
  const of = (dtype: string) =>
    depths
      .filter((each) => each.dtype === dtype)
      .map(({ layer, millisecondsPerPair }) => [layer, millisecondsPerPair] as const);
  console.log(
    table([
      ["layer", "f32 ms/pair", "bf16", "int8"],
      ...of("f32").map(([layer, ms], i) => [
        layer,
        ms.toFixed(2),
        of("bf16")[i]![1].toFixed(2),
        of("int8")[i]![1].toFixed(2),
      ]),
    ]),
  );
  const series = ["f32", "bf16", "int8"].map((name) => ({ name, points: of(name) }));
  writeResult(
    "depth-line.svg",
    svg({
      title: "Cost of a pair against layers, all stopping at one",
      x: "layers",
      y: "ms a pair, 2 threads",
      series,
    }),
  );
  return depths;
}
