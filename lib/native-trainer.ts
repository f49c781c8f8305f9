/**
 * The native trainer, typed: one model's weights, gradients and optimiser on a thread of their own.
 *
 * Calls run one after the other in the order they are made; each returns a promise. Nothing is shared with an Engine.
 */
import type { NativeBatch, NativeModelInfo } from "./native-engine.js";

/** `emulator` runs a GPU's kernels on the CPU: for tests. */
export type TrainDevice = "cpu" | "cuda" | `cuda:${number}` | "emulator";

/** Everything is required here: defaults are the command's business. */
export interface NativeTrainerOptions {
  /** Who carries batches through the model; heads, losses and the optimiser are the CPU's. A GPU trains in bf16 only. */
  readonly device: TrainDevice;
  readonly threads: number;
  /** What products are computed in; sums, the residual stream and the weights are f32 in either. */
  readonly dtype: "f32" | "bf16";
  /** Instruction set to force, or "" for the best one this machine has. */
  readonly isa: string;
  /**
   * Layers that score, ascending, the last one the model's last. Without it: the checkpoint's own, or every layer where
   * it has none. A layer that has no linear head yet gets one drawn from `seed`, and one
   * without a query matrix a multiple of the identity.
   */
  readonly exitLayers?: readonly number[];
  /** Kind of every exit's head. Without it: the checkpoint's own, or linear. */
  readonly head?: "linear" | "query";
  /** [exits] share of the logit of the exit before in each exit's own, in [0, 1), the first 0. Without it: none. */
  readonly carry?: readonly number[];
  /** Draws new heads and layer dropout. The same seed, batches and options give the same bits with any thread count. */
  readonly seed: number;
  /** Rows of the token-type table; more than the checkpoint has are copies: row 2 of row 1, row 3 of row 0, and so on. */
  readonly typeRows?: number;
  /** A step's lists are carried through the model in turns of at most so many tokens (a longer list is a turn of its own). */
  readonly turnTokens: number;
  /** Gradient checkpointing: keep a layer's input only and run the layer again on the way back. On the CPU. */
  readonly recompute: boolean;
  /** Probability that a turn skips its last layer; layer l of L is skipped with layerDropout × (2^(l/(L-1)) − 1). */
  readonly layerDropout: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Decoupled: a step takes lr × weightDecay × w off every matrix; biases and layer norms are left alone. */
  readonly weightDecay: number;
  /** Largest norm of the whole gradient; longer ones are scaled down to it. Infinity: never. */
  readonly clip: number;
}

/** Lists of one query each, with what is known about their pairs. All arrays are copied when a call is made. */
export interface NativeTrainBatch extends NativeBatch {
  /** [n] relevance in [0, 1], NaN where a pair is unlabelled. */
  readonly labels: Float32Array;
  /** One array [n] for each of the loss's teachers: its scores, NaN where it gave none. */
  readonly teachers?: readonly Float32Array[];
}

/**
 * loss = mean over lists of Σ exits weight × (rank × cross-entropy + binary × binary cross-entropy
 *        + Σ teachers weight × soften² × KL(teacher ‖ exit) + [not the last exit] distill × temperature² × KL(deeper exit ‖ exit))
 *
 * A list without a positive and a negative has no cross-entropy, one without labels no binary cross-entropy, one with
 * fewer than two scores of a teacher no KL from it: these parts are zero.
 */
export interface NativeLoss {
  /** One for each exit layer. */
  readonly exitWeights: readonly number[];
  /** List-wise: softmax over the labelled pairs against their labels as a distribution. */
  readonly rank: number;
  /** Mean over a list's labelled pairs of the cross-entropy of sigmoid(logit). */
  readonly binary: number;
  /** From softmax(scores / (temperature × soften)) to softmax(logits / soften). */
  readonly teachers: readonly { readonly weight: number; readonly temperature: number; readonly soften: number }[];
  /** Self-distillation over all pairs of a list; the teacher is never moved by it. */
  readonly distill: {
    readonly weight: number;
    readonly temperature: number;
    /** forward: KL(teacher ‖ exit). reverse: KL(exit ‖ teacher). */
    readonly direction: "forward" | "reverse";
    /** Exit layers that teach those before them, besides the last: each exit learns from the next deeper anchor. */
    readonly anchors: readonly number[];
  };
}

export interface NativeStepResult {
  readonly loss: number;
  /** One for each exit layer: the parts before any weight, as means over the lists. */
  readonly perExit: readonly {
    readonly rank: number;
    readonly binary: number;
    readonly teachers: readonly number[];
    readonly distill: number;
  }[];
  /** Before clipping. */
  readonly gradNorm: number;
  /** False where the gradient was not finite: the weights are as before, and the step is not counted. */
  readonly applied: boolean;
  /** Steps applied since the start, through saves and loads. */
  readonly step: number;
  readonly tokens: number;
  readonly milliseconds: number;
}

export interface NativeTrainerInfo extends NativeModelInfo {
  /** e.g. "train cpu bf16 avx512 2 threads". */
  readonly backend: string;
}

export interface NativeTrainer {
  /** Settles once the weights are read. `exitLayers` and `tokenTypes` are those of the model in training. */
  readonly ready: Promise<NativeTrainerInfo>;
  /**
   * Forward, losses, backward and one AdamW update over the whole batch, whatever its size. An encoder at rate 0 stays as it
   * is: nothing goes back through it, and the gradient that is clipped is that of the heads.
   */
  step(
    batch: NativeTrainBatch,
    loss: NativeLoss,
    rates: { readonly encoder: number; readonly heads: number },
  ): Promise<NativeStepResult>;
  /** [n × exits] logits with the current weights; nothing is dropped. */
  score(batch: NativeBatch): Promise<Float32Array>;
  /** Writes weights, moments and the step to one file, in full or not at all (disk full: ERR_FILE). */
  save(path: string): Promise<void>;
  /** Continues from a file that save wrote for the same model and options: bit for bit what would have followed. */
  load(path: string): Promise<void>;
  /**
   * Writes model.safetensors (F16, the base checkpoint's tensor names) and matryoshka.safetensors (F32 heads) into an
   * existing directory, each in full or not at all. The caller writes matryoshka.json, config.json (`type_vocab_size`
   * as in `info.tokenTypes`) and the tokenizer's files.
   */
  export(directory: string): Promise<void>;
  /** Pending calls reject with ERR_CLOSED; returns once the running one has ended. */
  close(): void;
}
