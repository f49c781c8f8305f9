/**
 * What the default model costs to have: time and resident memory to open it, memory over 10,000 scored pairs, and how
 * long the event loop is held while 2,000 pairs are scored. Each figure comes from processes of its own.
 *
 * Run: npm run bench:footprint
 */
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Reranker } from "../dist/index.js";
import { machine, median } from "./machine.js";
import { workload } from "./workload.js";

const self = fileURLToPath(import.meta.url);
const model = join(self, "../../models/default");
const mib = (bytes: number) => bytes / 2 ** 20;

const parts: Record<string, () => Promise<unknown>> = {
  /** Resident bytes of Node with the package imported but nothing opened, then what opening adds. */
  async open() {
    globalThis.gc?.();
    const before = process.memoryUsage.rss();
    const start = performance.now();
    const reranker = await Reranker.open(undefined, { device: "cpu" });
    const milliseconds = performance.now() - start;
    globalThis.gc?.();
    await sleep(50);
    const added = process.memoryUsage.rss() - before;
    await reranker.close();
    return { milliseconds, added };
  },

  async growth() {
    const reranker = await Reranker.open(undefined, { device: "cpu" });
    const pairs = workload();
    const resident: number[] = [];
    for (let scored = 0; scored < 10_000; scored += 1_000) {
      const thousand = Array.from({ length: 1_000 }, (_, i) => pairs[(scored + i) % pairs.length]!);
      await reranker.score(thousand, { layers: [reranker.info.layers] });
      globalThis.gc?.();
      resident.push(process.memoryUsage.rss());
    }
    await reranker.close();
    return resident;
  },

  async loop() {
    const reranker = await Reranker.open(undefined, { device: "cpu" });
    const pairs = workload();
    const documents = Array.from({ length: 2_000 }, (_, i) => pairs[i % pairs.length]!.document);
    const delay = monitorEventLoopDelay({ resolution: 1 });
    delay.enable();
    await reranker.rerank(pairs[0]!.query, documents);
    delay.disable();
    await reranker.close();
    return { p50: delay.percentile(50) / 1e6, p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 };
  },
};

const run = <T>(part: string): T =>
  JSON.parse(execFileSync(process.execPath, ["--expose-gc", "--import", "tsx", self, part], { encoding: "utf8" })) as T;

const part = process.argv[2];
if (part !== undefined) {
  process.stdout.write(JSON.stringify(await parts[part]!()));
} else {
  const opens = Array.from({ length: 5 }, () => run<{ milliseconds: number; added: number }>("open"));
  const file = statSync(join(model, "model.safetensors")).size;
  const added = median(opens.map((o) => o.added));
  const resident = run<number[]>("growth");
  const loop = run<{ p50: number; p99: number; max: number }>("loop");
  console.log(machine().line);
  console.log(
    `open the default model      ${median(opens.map((o) => o.milliseconds)).toFixed(0)} ms, median of ${opens.length}`,
  );
  console.log(
    `resident memory it adds     ${mib(added).toFixed(0)} MiB = ${(added / file).toFixed(2)} × the weight file (${mib(file).toFixed(0)} MiB)`,
  );
  console.log(`resident after 1,000 … 10,000 pairs  ${resident.map((r) => mib(r).toFixed(0)).join(" ")} MiB`);
  console.log(
    `event loop delay over 2,000 pairs    p50 ${loop.p50.toFixed(1)}, p99 ${loop.p99.toFixed(1)}, max ${loop.max.toFixed(1)} ms`,
  );
}
