/**
 * The only loader of the addon, and the only typed description of it.
 */
import { createRequire } from "node:module";
import { type ErrorCode, MatryoshkaError } from "./errors.js";
import type { NativeTrainer, NativeTrainerOptions } from "./native-trainer.js";
import type { Device } from "./types.js";

/** One device. */
export type NativeDevice = Exclude<Device, "auto" | `cuda:${number},${string}`>;

/** Options of the native engine, already validated. */
export interface NativeOptions {
  readonly device: NativeDevice;
  readonly dtype: "f32" | "bf16" | "f16" | "int8";
  readonly threads: number;
  /** Instruction set to force, or "" for the best one this machine has. */
  readonly isa: string;
}

/** What a checkpoint is, as read from its files. */
export interface NativeModelInfo {
  readonly family: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly vocab: number;
  /** Longest sequence in tokens, special tokens included. */
  readonly maxTokens: number;
  readonly tokenTypes: number;
  readonly exitLayers: readonly number[];
  readonly head: "linear" | "query" | "dense_tanh_linear";
  /** Whether every exit but the last has a compensation: estimates and units beside its logits. */
  readonly compensated: boolean;
  readonly parameters: number;
  readonly fileBytes: number;
  /** Stored types of the tensors with their counts, e.g. { F16: 197, F32: 24 }. */
  readonly storedTypes: Readonly<Record<string, number>>;
}

/** An opened model: the checkpoint's facts and what will run it. */
export interface NativeEngineInfo extends NativeModelInfo {
  /** e.g. "cpu f32 avx512 2 threads". */
  readonly backend: string;
}

/** One packed batch. The addon copies everything on submit. */
export interface NativeBatch {
  /** [T] token ids of all sequences end to end. */
  readonly tokenIds: Int32Array;
  /** [T] token types, or undefined for all zero. */
  readonly typeIds?: Int32Array | undefined;
  /** [n + 1] first token of each sequence, then T. */
  readonly cuSeqlens: Int32Array;
  /** [q + 1] first sequence of each query's list, then n. */
  readonly listOffsets: Int32Array;
}

/** One exit at which a rule decides; see native/engine/exit_rule.h. */
export interface NativeExitHead {
  readonly layer: number;
  /** Estimate of the final score = slope × (compensated) logit + offset. Default to 1 and 0. */
  readonly slope?: number;
  readonly offset?: number;
  /**
   * Half-width per unit of scale = width × unit + trend × |estimate − estimate at the rule's previous exit| + spread × the
   * list's spread; see native/engine/exit_rule.h. Default to 0.
   */
  readonly width?: number;
  readonly trend?: number;
  readonly spread?: number;
  /** confidence: stop where |estimate| (or, over the list, the largest softmax weight) exceeds it. Defaults to ∞. */
  readonly sure?: number;
}

/** An exit rule as the engine runs it. */
export interface NativeRule {
  readonly kind: "top-k" | "budget" | "confidence";
  /** Ascending, all before the plan's depth. */
  readonly exits: readonly NativeExitHead[];
  /** top-k. */
  readonly k?: number;
  readonly scale?: number;
  /** budget: who has less at stake stops; discounts of nDCG by rank, [k]. */
  readonly stake?: number;
  readonly discounts?: Float32Array;
  /** confidence: softmax over the list instead of over {relevant, not}. */
  readonly overList?: boolean;
  /** confidence: stop where a sequence's difficulty is below `easy`; [n] difficulties. */
  readonly easy?: number;
  readonly difficulty?: Float32Array;
}

export interface NativePlan {
  /** Blocks to run: one of `exitLayers`. */
  readonly depth: number;
  /** Exit layers to score on the way, ascending; `depth` is always scored. */
  readonly layers: readonly number[];
  readonly rule?: NativeRule;
  /** Whether scoring rows are given back too. */
  readonly states?: boolean;
  /** From submit; past it the pass ends with a peek at the next layer that scores. */
  readonly deadlineMs?: number;
}

export interface NativeResult {
  /** [n × exitLayers.length] raw logits, NaN where an exit did not score. */
  readonly logits: Float32Array;
  /** [n × exitLayers.length] each, where the model is compensated. */
  readonly estimates?: Float32Array;
  readonly units?: Float32Array;
  /** [n × exitLayers.length × hidden], where asked for. */
  readonly states?: Float32Array;
  /** [n] layer at which each sequence stopped. */
  readonly exitLayers: Uint8Array;
  /** Whether a deadline ended the pass before `depth`. */
  readonly partial: boolean;
  /** Milliseconds on the engine's thread. */
  readonly milliseconds: number;
}

export interface NativeEngine {
  /** Settles once the weights are packed. */
  readonly ready: Promise<NativeEngineInfo>;
  submit(batch: NativeBatch, plan: NativePlan): { id: number; promise: Promise<NativeResult> };
  /** The job's promise rejects with ERR_ABORTED at the next layer border. Unknown ids are ignored. */
  cancel(id: number): void;
  /** Pending jobs reject with ERR_CLOSED; returns once the engine's thread has ended. */
  close(): void;
}

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
