/**
 * Everything that is measured on one device in one arithmetic: speed at every depth and with exits, requests one behind
 * the other, each kernel against the roofline, and that a batch is one round trip. The device may be the emulator, which is
 * how a test runs all of this; its times say nothing of a GPU.
 */
import type { NativeTrace } from "../dist/native.js";
import type { NativeBatch, NativeOptions, NativePlan } from "../dist/native-engine.js";
import { type Gpu, kernelMilliseconds, kernelTable, kernelTimes, peakOf, rateLine, roundTrips } from "./gpu-report.js";
import { kernels } from "./roofline-model.js";

/** The least of the public API that is needed, so that a test can bring its own. */
export interface Model {
  readonly info: {
    readonly directory: string;
    readonly hidden: number;
    readonly intermediate: number;
    readonly layers: number;
    readonly exitLayers: readonly number[];
  };
  rerank(query: string, documents: readonly string[], options?: object): Promise<Answer>;
  rerankMany(requests: Iterable<{ query: string; documents: readonly string[] }>): AsyncIterable<Answer>;
}

interface Answer {
  readonly stats: { readonly computeFraction: number; readonly milliseconds: { readonly engine: number } };
}

export interface Setting {
  readonly model: Model;
  readonly device: NativeOptions["device"];
  readonly dtype: "bf16" | "f16" | "f32";
  readonly gpu?: Gpu;
  readonly query: string;
  readonly documents: readonly string[];
  /** The same documents in tokens. */
  readonly batch: NativeBatch;
  readonly rounds: number;
  trace(directory: string, options: NativeOptions, batch: NativeBatch, plan: NativePlan, passes: number): NativeTrace;
  print(line: string): void;
}

const THRESHOLDS = [1, 0.999, 0.99, 0.9, 0.6];
/** Requests of a stream: enough that its first and last hardly count. */
const REQUESTS = 8;

export async function measure(setting: Setting): Promise<void> {
  await depthsAndExits(setting);
  await stream(setting);
  launches(setting);
}

/** Time falls with compute only if nobody has to ask the device who is left. */
async function depthsAndExits({ model, query, documents, rounds, print }: Setting): Promise<void> {
  const { exitLayers } = model.info;
  let full = 0;
  for (const layer of exitLayers) {
    const { milliseconds } = await timed(rounds, () =>
      model.rerank(query, documents, { exit: { type: "layer", layer } }),
    );
    print(rateLine(`layer ${layer}`, documents.length, milliseconds));
    full = milliseconds;
  }
  for (const threshold of THRESHOLDS) {
    const thresholds = Object.fromEntries(exitLayers.slice(0, -1).map((layer) => [layer, threshold]));
    const { milliseconds, compute } = await timed(rounds, () =>
      model.rerank(query, documents, { exit: { type: "confidence", thresholds } }),
    );
    const note = `${compute.toFixed(2)} of the operations, ${(milliseconds / full).toFixed(2)} of the time`;
    print(rateLine(`confidence above ${threshold}`, documents.length, milliseconds, note));
  }
}

/** Requests one behind the other: the host prepares the next and reads the last while the device computes. */
async function stream({ model, query, documents, rounds, print }: Setting): Promise<void> {
  const requests = Array.from({ length: REQUESTS }, () => ({ query, documents }));
  const times: number[] = [];
  let engine = 0;
  for (let round = 0; round <= Math.ceil(rounds / REQUESTS); round++) {
    engine = 0;
    const start = performance.now();
    for await (const { stats } of model.rerankMany(requests)) engine += stats.milliseconds.engine;
    times.push(performance.now() - start);
  }
  // The first round warms up.
  const note = `tokenization included; ${engine.toFixed(2)} ms of the last round on the engine`;
  print(rateLine(`${REQUESTS} requests in a row`, REQUESTS * documents.length, median(times.slice(1)), note));
}

function launches({ model, device, dtype, gpu, batch, rounds, trace, print }: Setting): void {
  const { directory, layers, exitLayers } = model.info;
  const options = { device, dtype, threads: 1, isa: "" };
  // The first pass allocates.
  const full = trace(directory, options, batch, { depth: layers, layers: [layers] }, rounds + 1);
  const measured = { ...full, milliseconds: full.milliseconds.slice(1) };
  const exits = exitLayers.slice(0, -1).map((layer) => ({ layer, sure: 1 }));
  const early = trace(
    directory,
    options,
    batch,
    { depth: layers, layers: [layers], rule: { kind: "confidence", exits } },
    2,
  );
  for (const { calls } of [full, early]) {
    const wrong = roundTrips(calls);
    if (wrong) throw new Error(wrong);
  }
  print(
    `One round trip: the host asks for upload, ${full.kernels.length} launches (${early.kernels.length} with an exit after every ` +
      "layer), download, and waits once; it queues them all before the first has run.",
  );
  print(`All launches of a pass, each timed alone: ${kernelMilliseconds(measured).toFixed(2)} ms.`);
  if (dtype === "f32") return; // the roofline is that of tensor cores
  const lengths = Int32Array.from(
    { length: batch.cuSeqlens.length - 1 },
    (_, i) => batch.cuSeqlens[i + 1]! - batch.cuSeqlens[i]!,
  );
  const work = kernels(model.info, lengths, { bytes: new Map(), tokens: 1 });
  const peak = gpu && peakOf(gpu);
  if (peak)
    print(`The roofline: ${peak.tflops.toFixed(0)} TFLOP/s, ${peak.gbs.toFixed(0)} GB/s by the device's own clocks.`);
  for (const line of kernelTable(kernelTimes(measured, work, layers, peak))) print(line);
}

/** Milliseconds on the engine, from upload to results; after as many calls to warm up as there are rounds, up to three. */
async function timed(rounds: number, call: () => Promise<Answer>): Promise<{ milliseconds: number; compute: number }> {
  for (let i = 0; i < Math.min(rounds, 3); i++) await call();
  const times: number[] = [];
  let compute = 1;
  for (let i = 0; i < rounds; i++) {
    const { stats } = await call();
    compute = stats.computeFraction;
    times.push(stats.milliseconds.engine);
  }
  return { milliseconds: median(times), compute };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
