/**
 * Matrix products and attention of the default model's shapes: operations a second of one thread, and the share of what
 * its registers alone can do.
 */
import { table } from "../../dist/cli/output.js";
import type { Dtype } from "../../dist/index.js";
import { loadKernels, peakRate } from "./kernel-addon.js";
import { measure } from "./measure.js";

const DTYPES: readonly Dtype[] = ["f32", "bf16", "int8"];
const SHAPES = [
  { name: "keys, values", n: 768, k: 384, activated: false },
  { name: "query, output", n: 384, k: 384, activated: false },
  { name: "up + GELU", n: 1536, k: 384, activated: true },
  { name: "down", n: 384, k: 1536, activated: false },
];
const ROWS = [64, 160, 512];
const LENGTHS = [32, 105, 256, 512];

export function kernels() {
  const native = loadKernels();
  const rows: { op: string; dtype: string; size: string; gops: number; peak: number | null; share: number | null }[] =
    [];
  for (const dtype of DTYPES) {
    const peak = peakRate(native, dtype);
    const add = (op: string, size: string, operations: number, run: () => void, of: number | null) => {
      const rate = operations / measure(run).seconds;
      rows.push({ op, dtype, size, gops: rate / 1e9, peak: of && of / 1e9, share: of && rate / of });
    };
    for (const { name, n, k, activated } of SHAPES)
      for (const m of ROWS)
        add(name, `${m} × ${n} × ${k}`, 2 * m * n * k, native.gemm(dtype, m, n, k, activated), peak);
    // int8 runs attention in bf16 where the processor multiplies that.
    const attentionPeak = dtype === "int8" ? peakRate(native, "bf16") : peak;
    for (const length of LENGTHS)
      add(
        "attention",
        `12 heads × 32, ${length} tokens`,
        4 * 384 * length * length,
        native.attention(dtype, length, 12, 32),
        attentionPeak,
      );
  }
  const cells = rows.map(({ op, dtype, size, gops, share }) => [
    op,
    size,
    dtype,
    gops.toFixed(0),
    share === null ? "–" : `${(100 * share).toFixed(0)} %`,
  ]);
  console.log(`One thread, ${native.variant}; the peak is measured on registers in the same run.`);
  console.log(table([["op", "size", "dtype", "GOP/s", "of peak"], ...cells]));
  return { variant: native.variant, threads: 1, rows };
}
