/**
 * The only loader of the addon; native-engine.ts and native-trainer.ts describe what it makes.
 */
import { createRequire } from "node:module";
import { type ErrorCode, MatryoshkaError } from "./errors.js";
import type { NativeBatch, NativeEngine, NativeModelInfo, NativeOptions, NativePlan } from "./native-engine.js";
import type { NativeTrainer, NativeTrainerOptions } from "./native-trainer.js";

export interface NativeMachine {
  /** Instruction sets that can be forced, best first. */
  readonly isas: readonly string[];
  readonly features: readonly string[];
}

export interface NativeGpu {
  readonly index: number;
  readonly name: string;
  /** Compute capability × 10: 80 for 8.0. */
  readonly capability: number;
  readonly totalGiB: number;
  readonly multiprocessors: number;
  /** Of the multiprocessors and of the memory bus, at most; 0 where the driver does not say. */
  readonly clockGHz: number;
  readonly gigabytesPerSecond: number;
}

export interface NativeGpus {
  readonly devices: readonly NativeGpu[];
  /** Why there are none, in one line; "" where there are. */
  readonly reason: string;
  /** The CUDA object's file, there or not. */
  readonly object: string;
  /** CUDA versions of the object and of the driver, 13000 for 13.0; 0 where unknown. */
  readonly toolkit: number;
  readonly driver: number;
}

/** Passes over one batch, each launch of the CUDA kernels alone and with its time. */
export interface NativeTrace {
  readonly backend: string;
  /** What a pass asked of the device, in order: "upload", "run" and then its kernels, "download", "mark", "wait". */
  readonly calls: readonly string[];
  /** Its launches, in order; products with the shape of their weights: "gemm 384 x 1536". */
  readonly kernels: readonly string[];
  /** Of each launch: global memory asked for, by the emulator's count; 0 on a GPU. */
  readonly bytes: Float64Array;
  /** Of each launch, pass by pass: a GPU's own time; of the emulator, the host's. */
  readonly milliseconds: readonly Float32Array[];
}

/** The addon, as C++ exports it. */
export interface Native {
  readonly Engine: new (directory: string, options: NativeOptions) => NativeEngine;
  readonly Trainer: new (directory: string, options: NativeTrainerOptions) => NativeTrainer;
  /** Validates a checkpoint without packing it. Throws native errors. */
  inspect(directory: string): NativeModelInfo;
  machine(): NativeMachine;
  /** Looks for GPUs, loading the CUDA object on first use. */
  gpus(): NativeGpus;
  /** Devices cuda and emulator only. Blocks until it is done: for benchmarks. */
  trace(directory: string, options: NativeOptions, batch: NativeBatch, plan: NativePlan, passes: number): NativeTrace;
}

const require = createRequire(import.meta.url);

// A local build wins, so that a checkout never runs a stale published binary. lib/ and dist/ lie equally deep, so one
// path serves the sources under vitest and the package. Literal strings let bundlers follow them.
const candidates: ReadonlyArray<() => Native> = [
  () => require("../build/Release/matryoshka.node") as Native,
  () => require(`@matryoshka-rerank/${process.platform}-${process.arch}/matryoshka.node`) as Native,
];

let loaded: Native | undefined;

/** Loads the addon on first use, so that importing the package never throws. */
export function native(): Native {
  if (loaded) return loaded;
  const causes: unknown[] = [];
  for (const candidate of candidates) {
    try {
      loaded = candidate();
      return loaded;
    } catch (cause) {
      causes.push(cause);
    }
  }
  throw new MatryoshkaError(
    "ERR_NATIVE_NOT_FOUND",
    `Expected a native addon for ${process.platform}-${process.arch} but none could be loaded. Build it with ` +
      "`npm ci && npm run build:native` in the package's directory (needs CMake and a C++17 compiler).",
    { cause: new AggregateError(causes) },
  );
}

/** Where the addon was loaded from. */
export function addonFile(): string {
  const addon = native();
  return Object.keys(require.cache).find((file) => require.cache[file]?.exports === addon)!;
}

/** Native errors carry a code and a message; this gives them the package's class and a JavaScript stack. */
export function fromNative(error: unknown): unknown {
  if (error instanceof MatryoshkaError || !(error instanceof Error)) return error;
  const code = (error as { code?: unknown }).code;
  return typeof code === "string" && code.startsWith("ERR_")
    ? new MatryoshkaError(code as ErrorCode, error.message)
    : error;
}
