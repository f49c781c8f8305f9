/**
 * Where the time of workload W goes: each op of a layer timed alone at the tile size the engine uses, times how often W
 * needs it, beside the measured whole and the ceiling that the registers' peak sets.
 */
import { table } from "../../dist/cli/output.js";
import { type Dtype, Reranker } from "../../dist/index.js";
import { workload } from "../workload.js";
import { loadKernels, peakRate } from "./kernel-addon.js";
import { measure, measureAsync } from "./measure.js";

const TILE = 160;
const [HIDDEN, MLP, HEADS, LAYERS] = [384, 1536, 12, 12] as const;

/** Tokens of every pair of W. */
async function lengths(reranker: Reranker): Promise<number[]> {
  const counts: number[] = [];
  for (const { query, document } of workload()) {
    const { stats } = await reranker.score([{ query, document }], { layers: [reranker.info.exitLayers[0]!] });
    counts.push(stats.tokens);
  }
  return counts;
}

export async function layers() {
  const native = loadKernels();
  const rows: { dtype: string; op: string; milliseconds: number; share: number }[] = [];
  const wholes: { dtype: string; milliseconds: number; ceilingMilliseconds: number | null }[] = [];
  for (const dtype of ["f32", "bf16", "int8"] as const satisfies readonly Dtype[]) {
    await using reranker = await Reranker.open(undefined, { dtype, threads: 1 });
    const counts = await lengths(reranker);
    const tokens = counts.reduce((sum, n) => sum + n, 0);
    // The last layer needs keys and values of all tokens, and the rest of one row a pair: nothing worth counting.
    const gemm = (n: number, k: number, depth: number, activated = false) =>
      (measure(native.gemm(dtype, TILE, n, k, activated)).seconds / TILE) * tokens * depth;
    const perRow = (run: () => void, times: number) => (measure(run).seconds / TILE) * tokens * times;
    const inner = LAYERS - 1;
    const parts: Record<string, number> = {
      "keys, values": gemm(2 * HIDDEN, HIDDEN, LAYERS),
      query: gemm(HIDDEN, HIDDEN, inner),
      attention: measure(native.attention(dtype, Int32Array.from(counts), HEADS, HIDDEN / HEADS), 2).seconds * inner,
      "attention output": gemm(HIDDEN, HIDDEN, inner),
      "MLP up, GELU": gemm(MLP, HIDDEN, inner, true),
      "MLP down": gemm(HIDDEN, MLP, inner),
      "residual, norm": perRow(native.residualNorm(TILE, HIDDEN), 2 * inner),
      // hidden twice; where products take u8, also context and the MLP's inner rows, which bf16 writes as such.
      rounding:
        dtype === "f32"
          ? 0
          : perRow(native.convert(dtype, TILE, HIDDEN), 2 * inner) +
            (dtype === "int8"
              ? perRow(native.convert(dtype, TILE, HIDDEN), inner) + perRow(native.convert(dtype, TILE, MLP), inner)
              : 0),
    };
    const pairs = workload().map(({ query, document }) => ({ query, document }));
    let engine = Number.POSITIVE_INFINITY;
    await measureAsync(async () => {
      const { stats } = await reranker.score(pairs, { layers: [LAYERS] });
      engine = Math.min(engine, stats.milliseconds.engine);
    });
    const whole = engine / 1e3;
    const named = Object.values(parts).reduce((sum, each) => sum + each, 0);
    const all = { ...parts, "embedding, heads, waiting": whole - named };
    for (const [op, seconds] of Object.entries(all))
      rows.push({ dtype, op, milliseconds: seconds * 1e3, share: seconds / whole });
    const peak = peakRate(native, dtype);
    const products = tokens * 2 * (LAYERS * 2 * HIDDEN ** 2 + inner * (2 * HIDDEN ** 2 + 2 * HIDDEN * MLP));
    const attended = counts.reduce((sum, n) => sum + 4 * HIDDEN * n * n, 0) * inner;
    const attentionPeak = dtype === "int8" ? peakRate(native, "bf16") : peak;
    const ceiling = peak && attentionPeak && products / peak + attended / attentionPeak;
    wholes.push({ dtype, milliseconds: whole * 1e3, ceilingMilliseconds: ceiling && ceiling * 1e3 });
  }
  console.log(`W on one thread, ${native.variant}, tiles of ${TILE} tokens`);
  console.log(
    table([
      ["dtype", "op", "ms", "share"],
      ...rows.map(({ dtype, op, milliseconds, share }) => [
        dtype,
        op,
        milliseconds.toFixed(0),
        `${(100 * share).toFixed(1)} %`,
      ]),
    ]),
  );
  for (const { dtype, milliseconds, ceilingMilliseconds } of wholes)
    console.log(
      `${dtype}: ${milliseconds.toFixed(0)} ms; ${ceilingMilliseconds === null ? "no ceiling known" : `the FLOPs alone need ${ceilingMilliseconds.toFixed(0)} ms: ${((100 * ceilingMilliseconds) / milliseconds).toFixed(0)} % of the ceiling`}`,
    );
  return { variant: native.variant, threads: 1, tile: TILE, rows, wholes };
}
