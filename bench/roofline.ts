/**
 * What GPUs could do at best with the bundled model, on paper: for each kernel of a layer its operations, the bytes that
 * have to cross the memory bus once, and the bytes that the emulator counts the kernel asking for; for each GPU the larger
 * of operations over peak and compulsory bytes over bandwidth. Nothing here was measured on a GPU.
 *
 * Run: npm run bench:roofline. Builds the emulator's counter, prints markdown, writes bench/results/roofline.json.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { blockFlops, fullFlops } from "../dist/exit/cost.js";
import { inspectModel } from "../dist/index.js";
import { workloads } from "./peers/workload.mjs";
import { kernels, lowerBound, type Traffic } from "./roofline-model.js";
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

const root = fileURLToPath(new URL("..", import.meta.url));
const run = (command: string, ...args: string[]): string => {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr}`);
  return stdout;
};

const model = await inspectModel();
const { hidden, heads, intermediate, layers } = model;
const tokens = Int32Array.from(workloads().all, ({ ids }) => ids.length);
const mean = Math.round(tokens.reduce((sum, n) => sum + n, 0) / tokens.length);

run("cmake", "-S", "native", "-B", "build/traffic", "-DMATRYOSHKA_ADDON=OFF", "-DMATRYOSHKA_TESTS=ON");
run("cmake", "--build", "build/traffic", "--target", "cuda_traffic", "-j", "2");
const program = join(root, "build/traffic/test/cuda/cuda_traffic");
const counted = JSON.parse(
  run(program, ...[hidden, heads, intermediate, SEQUENCES, mean].map(String)),
) as readonly Traffic[];

const layer = kernels({ hidden, intermediate }, tokens, counted, SEQUENCES * mean);
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
