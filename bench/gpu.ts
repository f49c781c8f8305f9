/**
 * The bundled model on every GPU that is here, over workload W in one list (`npm run bench:gpu` builds what it needs):
 * gpu-measure.ts in each arithmetic, and PyTorch on the same tokens where it is installed and sees the GPU. What it prints is
 * also written to bench/results, in a file named after the first GPU.
 */
import { Reranker } from "../dist/index.js";
import { native } from "../dist/native.js";
import { measure } from "./gpu-measure.js";
import { rateLine } from "./gpu-report.js";
import { machine } from "./machine.js";
import * as torch from "./peers/contenders/torch.mjs";
import { workloads } from "./peers/workload.mjs";
import { writeResult } from "./suites/results.js";
import { workload } from "./workload.js";

const ROUNDS = 20;
const TORCH_BATCHES = [32, 64, 128, 256];

const pairs = workload();
const documents = pairs.map(({ document }) => document);
const { query } = pairs[0]!;
// One query, so that a rule compares all of them.
const rows = workloads().all;
const starts = [0];
for (const { ids } of rows) starts.push(starts.at(-1)! + ids.length);
const batch = {
  tokenIds: Int32Array.from(rows.flatMap(({ ids }) => ids)),
  typeIds: Int32Array.from(rows.flatMap(({ types }) => types)),
  cuSeqlens: Int32Array.from(starts),
  listOffsets: Int32Array.of(0, rows.length),
};

const { devices, reason } = native().gpus();
const lines: string[] = [];
const print = (line: string): void => {
  console.log(line);
  lines.push(line);
};
print(devices.length > 0 ? machine().line : `GPU benchmark skipped: ${reason}.`);
for (const gpu of devices)
  for (const dtype of ["bf16", "f16", "f32"] as const) {
    if (dtype === "bf16" && gpu.capability < 80) continue;
    const device = `cuda:${gpu.index}` as const;
    print(`\n${device} ${gpu.name}, ${dtype}: ${documents.length} documents, median of ${ROUNDS}`);
    await using model = await Reranker.open(undefined, { device, dtype });
    await measure({
      model,
      device,
      dtype,
      gpu,
      query,
      documents,
      batch,
      rounds: ROUNDS,
      trace: native().trace,
      print,
    });
    await comparePyTorch(dtype, gpu.index, await engineTime(model));
  }

if (devices[0]) writeResult(`gpu-${devices[0].name.toLowerCase().replace(/\W+/g, "-")}.txt`, `${lines.join("\n")}\n`);

/** Milliseconds of the same pairs that PyTorch scores, without tokenization. */
async function engineTime(model: Reranker): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ROUNDS; i++) {
    const { stats } = await model.score(pairs, { layers: [model.info.layers] });
    best = Math.min(best, stats.milliseconds.engine);
  }
  return best;
}

/** The best of each batch size; padding and copies to the device not counted. */
async function comparePyTorch(dtype: string, index: number, ours: number): Promise<void> {
  const missing = torch.missing(`cuda:${index}`);
  if (missing) return print(`PyTorch skipped: ${missing}.`);
  const contender = await torch.open(dtype, `cuda:${index}`);
  print(rateLine("this package, at best", rows.length, ours));
  for (const size of TORCH_BATCHES) {
    const pass = contender.prepare(rows, size);
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i < ROUNDS; i++) best = Math.min(best, (await pass()).milliseconds);
    print(rateLine(`PyTorch, batches of ${size}`, rows.length, best, contender.version));
  }
  contender.close();
}
