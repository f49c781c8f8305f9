/**
 * Whether costs grow as they should: pairs a second against how many a call brings, one long document, and the
 * memory of another worker thread.
 */
import { execFileSync } from "node:child_process";
import { table } from "../../dist/cli/output.js";
import { Reranker } from "../../dist/index.js";
import { svg } from "../../dist/report/chart.js";
import { workload } from "../workload.js";
import { measureAsync } from "./measure.js";
import { writeResult } from "./results.js";

const COUNTS = [1, 8, 64, 512, 4096];

/** Resident bytes after W was scored, in a process of its own. */
function resident(threads: number): number {
  const script = `
    import { Reranker } from "${new URL("../../dist/index.js", import.meta.url).href}";
    import { workload } from "${new URL("../workload.ts", import.meta.url).href}";
    const reranker = await Reranker.open(undefined, { device: "cpu", threads: ${threads} });
    await reranker.score(workload().slice(0, 64));
    globalThis.gc();
    console.log(process.memoryUsage.rss());`;
  const args = ["--expose-gc", "--import", "tsx", "--input-type=module", "-e", script];
  return Number(execFileSync(process.execPath, args, { cwd: new URL("../..", import.meta.url) }));
}

export async function growth() {
  await using reranker = await Reranker.open(undefined, { device: "cpu" });
  const all = workload().map(({ query, document }) => ({ query, document }));
  const layers = [reranker.info.layers];
  const rows: { pairs: number; pairsPerSecond: number; tokensPerSecond: number }[] = [];
  for (const count of COUNTS) {
    // Whole W, some times over, in calls of `count` pairs one after the other: every row scores the same texts.
    const total = Math.max(count, all.length);
    const pairs = Array.from({ length: total }, (_, i) => all[i % all.length]!);
    const calls = Array.from({ length: total / count }, (_, i) => pairs.slice(i * count, (i + 1) * count));
    let tokens = 0;
    const { seconds } = await measureAsync(
      async () => {
        tokens = 0;
        for (const each of calls) tokens += (await reranker.score(each, { layers })).stats.tokens;
      },
      { maxTime: 3, minSamples: count > 1000 ? 2 : 5 },
    );
    rows.push({ pairs: count, pairsPerSecond: total / seconds, tokensPerSecond: tokens / seconds });
  }
  const long = [{ query: all[0]!.query, document: all.map(({ document }) => document).join(" ") }];
  const { stats } = await reranker.score(long, { layers });
  const { seconds } = await measureAsync(() => reranker.score(long, { layers }));
  const memory = [1, 2, 3].map((threads) => ({ threads, residentMiB: resident(threads) / 2 ** 20 }));
  console.log(`${reranker.info.backend}, tokenization included`);
  console.log(
    table([
      ["pairs a call", "pairs/s", "tokens/s"],
      ...rows.map((row) => [row.pairs, row.pairsPerSecond.toFixed(1), row.tokensPerSecond.toFixed(0)]),
    ]),
  );
  console.log(
    `one document of ${stats.tokens} tokens: ${(1e3 * seconds).toFixed(1)} ms, ${(stats.tokens / seconds).toFixed(0)} tokens/s`,
  );
  console.log(
    `resident with 1, 2, 3 threads: ${memory.map(({ residentMiB }) => residentMiB.toFixed(0)).join(", ")} MiB`,
  );
  const points = rows.map((row) => [row.pairs, row.pairsPerSecond] as const);
  writeResult(
    "growth.svg",
    svg({
      title: "Throughput against pairs a call",
      x: "pairs a call",
      y: "pairs/s",
      logX: true,
      series: [{ name: reranker.info.backend ?? "", points }],
    }),
  );
  return { backend: reranker.info.backend, rows, long: { tokens: stats.tokens, milliseconds: 1e3 * seconds }, memory };
}
