/**
 * Where the time of workload W goes: passes of the engine itself on one thread, with clocks around its ops, beside the
 * ceiling that the registers' peak sets. Rounding rows to what a product takes counts as part of that product.
 */
import { table } from "../../dist/cli/output.js";
import { type Dtype, Reranker } from "../../dist/index.js";
import { DEFAULT_MODEL } from "../../dist/model-info.js";
import { workload } from "../workload.js";
import { type Kernels, loadKernels, peakRate } from "./kernel-addon.js";
import { measure, measureAsync } from "./measure.js";
import { packedWorkload } from "./tokens.js";

const DTYPES: readonly Dtype[] = ["f32", "bf16", "int8"];
const [HIDDEN, MLP, LAYERS] = [384, 1536, 12] as const;
/** Layers that run for every token; of the last one only keys and values do. */
const WHOLE = LAYERS - 1;

interface Part {
  readonly name: string;
  /** As the addon calls them. */
  readonly of: readonly string[];
  /** In all layers together; 0 where nobody counts them. */
  readonly operations: number;
  /** How many layers run it for every token. */
  readonly layers?: number;
}

function partsOf(lengths: readonly number[]): Part[] {
  const tokens = lengths.reduce((sum, n) => sum + n, 0);
  const products = (n: number, k: number, layers = WHOLE) => ({ operations: 2 * tokens * n * k * layers, layers });
  const attention = WHOLE * lengths.reduce((sum, n) => sum + 4 * HIDDEN * n * n, 0);
  return [
    { name: "keys, values", of: ["key_value"], ...products(2 * HIDDEN, HIDDEN, LAYERS) },
    { name: "query", of: ["query"], ...products(HIDDEN, HIDDEN) },
    { name: "attention", of: ["attention"], operations: attention, layers: WHOLE },
    { name: "attention output", of: ["output"], ...products(HIDDEN, HIDDEN) },
    { name: "MLP up, GELU", of: ["up"], ...products(MLP, HIDDEN) },
    { name: "MLP down", of: ["down"], ...products(HIDDEN, MLP) },
    { name: "residual, norm", of: ["residual"], operations: 0, layers: WHOLE },
    { name: "embedding", of: ["embed"], operations: 0 },
    { name: "last layer's scoring rows, heads", of: ["scoring", "head"], operations: 0 },
  ];
}

/** The rate a part could reach: int8 attends in bf16 where the processor multiplies that. */
function peaks(native: Kernels, dtype: Dtype): (part: Part) => number | null {
  const peak = peakRate(native, dtype);
  const attention = dtype === "int8" ? (peakRate(native, "bf16") ?? peakRate(native, "f32")) : peak;
  return ({ name }) => (name === "attention" ? attention : peak);
}

export async function layers() {
  const native = loadKernels();
  const { batch, lengths } = await packedWorkload(DEFAULT_MODEL);
  const parts = partsOf(lengths);
  const pairs = workload().map(({ query, document }) => ({ query, document }));
  const rows: { dtype: Dtype; op: string; ms: number; share: number; gops: number | null; ofPeak: number | null }[] =
    [];
  const wholes: { dtype: Dtype; ms: number; layerMs: number; ceilingMs: number | null; publicApiMs: number }[] = [];
  for (const dtype of DTYPES) {
    const peakOf = peaks(native, dtype);
    const { run, seconds } = native.pass(DEFAULT_MODEL, dtype, batch);
    const ms = 1e3 * measure(run, 5).seconds;
    const spent = seconds();
    const share = (part: Part) => part.of.reduce((sum, name) => sum + spent[name]!, 0) / spent.whole!;
    const add = (op: string, own: number, operations = 0, peak: number | null = null) => {
      const rate = operations / (own * ms * 1e-3);
      rows.push({
        dtype,
        op,
        ms: own * ms,
        share: own,
        gops: null,
        ofPeak: null,
        ...(operations > 0 && { gops: rate / 1e9, ofPeak: peak && rate / peak }),
      });
    };
    for (const part of parts) add(part.name, share(part), part.operations, peakOf(part));
    add("tiles, waiting", 1 - parts.reduce((sum, part) => sum + share(part), 0));
    const layerMs = parts.reduce((sum, part) => sum + (part.layers ? (share(part) * ms) / part.layers : 0), 0);
    const needed = parts
      .filter(({ operations }) => operations > 0)
      .map((part) => [part.operations, peakOf(part)] as const);
    const known = needed.every(([, peak]) => peak !== null);
    const ceilingMs = known ? 1e3 * needed.reduce((sum, [operations, peak]) => sum + operations / peak!, 0) : null;
    await using reranker = await Reranker.open(undefined, { device: "cpu", dtype, threads: 1 });
    const whole = await measureAsync(() => reranker.score(pairs, { layers: [LAYERS] }));
    wholes.push({ dtype, ms, layerMs, ceilingMs, publicApiMs: 1e3 * whole.seconds });
  }
  console.log(`W on one thread, ${native.variant}: full depth, the product's own pass with clocks around its ops`);
  const percent = (value: number | null) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
  const cells = rows.map(({ dtype, op, ms, share, gops, ofPeak }) => [
    ...[dtype, op, ms.toFixed(1), percent(share), gops?.toFixed(0) ?? "–", percent(ofPeak)],
  ]);
  console.log(table([["dtype", "op", "ms", "of the time", "GOP/s", "of peak"], ...cells]));
  for (const { dtype, ms, layerMs, ceilingMs, publicApiMs } of wholes)
    console.log(
      `${dtype}: ${ms.toFixed(0)} ms, one encoder layer ${layerMs.toFixed(1)} ms; ` +
        `${ceilingMs === null ? "no peak is known" : `FLOPs / peak ${ceilingMs.toFixed(0)} ms: ${percent(ceilingMs / ms)} of the ceiling`}; ` +
        `through the public API ${publicApiMs.toFixed(0)} ms`,
    );
  return { variant: native.variant, threads: 1, pairs: pairs.length, rows, wholes };
}
