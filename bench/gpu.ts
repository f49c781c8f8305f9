/**
 * Pairs per second of the bundled model on a GPU, at every depth and with exits, over workload W in one list (`npm run
 * bench:gpu` builds what it needs).
 *
 * The host queues a whole batch before the first kernel has run and waits once, so the time of a batch whose documents stop
 * early shows what the exit step costs: were there a round trip a layer, it would not fall with the compute.
 */
import { Reranker } from "../dist/index.js";
import { native } from "../dist/native.js";
import { machine, median } from "./machine.js";
import { workload } from "./workload.js";

const WARMUP = 3;
const ROUNDS = 20;
const THRESHOLDS = [1, 0.999, 0.99, 0.9, 0.6];

const { devices, reason } = native().gpus();
if (devices.length === 0) console.log(`GPU benchmark skipped: ${reason}.`);
else console.log(machine().line);

const pairs = workload();
const documents = pairs.map(({ document }) => document);
const { query } = pairs[0]!;

for (const { index, name } of devices)
  for (const dtype of ["bf16", "f16", "f32"] as const) {
    await using reranker = await Reranker.open(undefined, { device: `cuda:${index}`, dtype });
    const { exitLayers } = reranker.info;
    console.log(`\ncuda:${index} ${name}, ${dtype}: ${documents.length} documents, median of ${ROUNDS}`);
    for (const layer of exitLayers) {
      const { milliseconds } = await timed(() => reranker.rerank(query, documents, { exit: { type: "layer", layer } }));
      report(`layer ${layer}`, milliseconds, 1);
    }
    for (const threshold of THRESHOLDS) {
      const thresholds = Object.fromEntries(exitLayers.slice(0, -1).map((layer) => [layer, threshold]));
      const { milliseconds, result } = await timed(() =>
        reranker.rerank(query, documents, { exit: { type: "confidence", thresholds } }),
      );
      report(`confidence above ${threshold}`, milliseconds, result.stats.computeFraction);
    }
  }

async function timed<T>(call: () => Promise<T>): Promise<{ milliseconds: number; result: T }> {
  let result = await call();
  for (let i = 1; i < WARMUP; i++) result = await call();
  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now();
    result = await call();
    times.push(performance.now() - start);
  }
  return { milliseconds: median(times), result };
}

function report(what: string, milliseconds: number, computeFraction: number): void {
  const rate = (documents.length / milliseconds) * 1e3;
  console.log(
    `${what.padEnd(24)} ${milliseconds.toFixed(2).padStart(9)} ms ${rate.toFixed(0).padStart(8)} pairs/s  compute ${computeFraction.toFixed(2)}`,
  );
}
