/**
 * What GPUs could do at best with the bundled model, on paper: for each kernel of a layer its operations, the bytes that
 * have to cross the memory bus once, and the bytes that the emulator counts the kernel asking for; for each GPU the larger
 * of operations over peak and compulsory bytes over bandwidth. Nothing here was measured on a GPU.
 *
 * Run: npm run bench:roofline. Prints markdown, writes bench/results/roofline.json.
 */
import { blockFlops, fullFlops } from "../dist/exit/cost.js";
import { inspectModel } from "../dist/index.js";
import { native } from "../dist/native.js";
import { workloads } from "./peers/workload.mjs";
import { kernels, lowerBound } from "./roofline-model.js";
import { writeJson } from "./suites/results.js";

/** Dense 16-bit tensor-core TFLOP/s with f32 sums, and GB/s, from NVIDIA's data sheets. */
const GPUS = [
  { name: "T4", tflops: 65, gbs: 320, source: "T4 data sheet" },
  { name: "L4", tflops: 121, gbs: 300, source: "L4 data sheet" },
  { name: "RTX 4090", tflops: 165.2, gbs: 1008, source: "Ada GPU architecture paper" },
  { name: "A100 80 GB SXM", tflops: 312, gbs: 2039, source: "A100 data sheet" },
  { name: "H100 SXM", tflops: 989.4, gbs: 3350, source: "H100 data sheet" },
  { name: "H200", tflops: 989.4, gbs: 4800, source: "H200 data sheet" },
];
/** Sequences that are emulated: two tiles of rows and a bit, so that edges count as they do in a large batch. */
const SEQUENCES = 3;

const model = await inspectModel();
const { hidden, heads, intermediate, layers, exitLayers } = model;
const tokens = Int32Array.from(workloads().all, ({ ids }) => ids.length);
const mean = Math.round(tokens.reduce((sum, n) => sum + n, 0) / tokens.length);

/** Bytes asked for by kernel, up to an exit; its own layer is a peek. */
function traffic(depth: number): Map<string, number> {
  const options = { device: "emulator", dtype: "f16", threads: 1, isa: "" } as const;
  const batch = {
    tokenIds: Int32Array.from({ length: SEQUENCES * mean }, (_, i) => 1000 + i),
    cuSeqlens: Int32Array.from({ length: SEQUENCES + 1 }, (_, i) => i * mean),
    listOffsets: Int32Array.of(0, SEQUENCES),
  };
  const trace = native().trace(model.directory, options, batch, { depth, layers: [depth] }, 1);
  const sums = new Map<string, number>();
  for (const [i, kernel] of trace.kernels.entries()) sums.set(kernel, (sums.get(kernel) ?? 0) + trace.bytes[i]!);
  return sums;
}
// What one layer more adds is a whole layer: the peek is in both.
const [first, second] = exitLayers;
if (first !== 1 || second !== 2) throw new Error("Expected a model with exits after its first two layers");
const peek = traffic(first);
const counted = new Map([...traffic(second)].map(([kernel, bytes]) => [kernel, bytes - (peek.get(kernel) ?? 0)]));

const layer = kernels({ hidden, intermediate }, tokens, { bytes: counted, tokens: SEQUENCES * mean });
const total = (pick: (kernel: (typeof layer)[number]) => number) => layer.reduce((sum, each) => sum + pick(each), 0);
const passes = fullFlops(model, tokens) / tokens.reduce((sum, n) => sum + blockFlops(model, n), 0);
console.log(
  `${model.directory.split("/").at(-1)}, ${layers} × ${hidden}, workload W: ${tokens.length} pairs, ${mean} tokens on average, f16. Estimates, not measurements.\n`,
);
console.log(
  "| kernel of a layer | GFLOP | compulsory MB | asked for MB | FLOP a compulsory byte |\n|---|---|---|---|---|",
);
for (const { name, flops, compulsory, asked } of layer)
  console.log(
    `| ${name} | ${(flops / 1e9).toFixed(2)} | ${(compulsory / 1e6).toFixed(1)} | ${(asked / 1e6).toFixed(1)} | ${(flops / compulsory).toFixed(0)} |`,
  );
console.log(
  `| all | ${(total(({ flops }) => flops) / 1e9).toFixed(2)} | ${(total(({ compulsory }) => compulsory) / 1e6).toFixed(1)} | ${(total(({ asked }) => asked) / 1e6).toFixed(1)} | |\n`,
);
console.log(
  "| GPU | TFLOP/s | GB/s | a layer, µs | bound by memory | full depth, ms | pairs/s at most |\n|---|---|---|---|---|---|---|",
);
const rows = GPUS.map((gpu) => {
  const bounds = layer.map((kernel) => ({ name: kernel.name, ...lowerBound(kernel, gpu) }));
  const microseconds = bounds.reduce((sum, each) => sum + each.microseconds, 0);
  const milliseconds = (microseconds * passes) / 1e3;
  const pairsPerSecond = (tokens.length / milliseconds) * 1e3;
  const memory = bounds.filter(({ by }) => by === "memory").map(({ name }) => name);
  console.log(
    `| ${gpu.name} | ${gpu.tflops} | ${gpu.gbs} | ${microseconds.toFixed(0)} | ${memory.join(", ") || "nothing"} | ${milliseconds.toFixed(2)} | ${Math.round(pairsPerSecond).toLocaleString("en")} |`,
  );
  return { ...gpu, microseconds, milliseconds, pairsPerSecond, bounds };
});
writeJson("roofline", {
  model: { hidden, heads, intermediate, layers },
  pairs: tokens.length,
  mean,
  layer,
  gpus: rows,
});
