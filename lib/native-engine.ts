/**
 * The native engine, typed: a model opened on one device, the batches it takes and what it says of them.
 */
import type { Device, ModelInfo } from "./types.js";

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
export interface NativeModelInfo extends Omit<ModelInfo, "directory" | "provenance" | "backend" | "dtype"> {
  readonly tokenTypes: number;
  readonly head: "linear" | "query" | "dense_tanh_linear";
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
