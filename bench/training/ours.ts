/**
 * Our side of the training benchmark: all steps of a file once for every line of stdin, at an encoder's rate; answers on
 * stdout.
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { native } from "../../dist/native.js";
import type { NativeTrainBatch } from "../../dist/native-trainer.js";

interface Pair {
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

const { list, steps } = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as {
  readonly list: number;
  readonly steps: readonly (readonly Pair[])[];
};
const encoder = Number(process.argv[3]);
const model = fileURLToPath(new URL("../../models/default", import.meta.url));
const trainer = new (native().Trainer)(model, {
  // PyTorch's side has linear heads.
  ...{
    head: "linear" as const,
    threads: 2,
    device: "cpu",
    isa: "",
    dtype: "bf16",
    seed: 1,
    turnTokens: 8192,
    recompute: false,
    layerDropout: 0,
  },
  ...{ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clip: 1 },
});
const { exitLayers } = await trainer.ready;

function batch(pairs: readonly Pair[]): NativeTrainBatch {
  const cuSeqlens = new Int32Array(pairs.length + 1);
  for (const [i, { ids }] of pairs.entries()) cuSeqlens[i + 1] = cuSeqlens[i]! + ids.length;
  return {
    tokenIds: Int32Array.from(pairs.flatMap(({ ids }) => ids)),
    typeIds: Int32Array.from(pairs.flatMap(({ types }) => types)),
    cuSeqlens,
    listOffsets: Int32Array.from({ length: pairs.length / list + 1 }, (_, i) => i * list),
    labels: Float32Array.from(pairs, (_, i) => (i % list === 0 ? 1 : 0)),
    teachers: [],
  };
}

const batches = steps.map(batch);
const loss = {
  ...{ exitWeights: exitLayers.map(() => 1), rank: 1, binary: 0, teachers: [] },
  distill: { weight: 0.5, temperature: 1, direction: "forward" as const, anchors: [] },
};
for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now();
  const losses: number[] = [];
  for (const step of batches) losses.push((await trainer.step(step, loss, { encoder, heads: 1e-3 })).loss);
  const milliseconds = performance.now() - start;
  const peakMiB = process.resourceUsage().maxRSS / 1024;
  console.log(JSON.stringify({ milliseconds, loss: losses.reduce((a, b) => a + b) / losses.length, peakMiB }));
}
