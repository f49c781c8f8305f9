/**
 * The public types: what callers pass in and get back.
 */

/**
 * Where the model runs. "auto" is the first GPU of compute capability 8.0 or later where the CUDA core is built, and else
 * the CPU; "cuda" is the first GPU, "cuda:1" the second, "cuda:0,1" both, each with the whole model, batches going to the
 * one with less to do;
 * "emulator" runs the GPU's kernels on the CPU, slowly, to check them; "reference" is the double-precision oracle.
 */
export type Device = "auto" | "cpu" | "cuda" | `cuda:${number}` | `cuda:${number},${string}` | "emulator" | "reference";

/**
 * Arithmetic of the matrix products. "auto" is the fastest one that this machine runs well; see `docs/devices.md`. f16 is
 * for GPUs and the emulator, int8 for the CPU.
 */
export type Dtype = "auto" | "f32" | "bf16" | "f16" | "int8";

/** What to do when query and document together exceed `maxLength`. */
export type Truncation =
  /** Cut the document; the query is kept whole. */
  | "document"
  /** Throw `ERR_INPUT_TOO_LONG`. */
  | "error"
  /** Score the document in windows of the length that fits, and keep the best window's score. */
  | "chunk-max";

/** Applied to the returned `score`; `logit` always stays raw. */
export type Activation = "sigmoid" | "none";

/** When a document stops. See `docs/early-exit.md`. */
export type Exit =
  /** Nobody before full depth. */
  | { readonly type: "full" }
  /** Everybody at one exit layer. */
  | { readonly type: "layer"; readonly layer: number }
  /**
   * A document stops once it is out of the top k by a margin that the model's certificate covers: the first k results
   * are full depth's, with the certificate's confidence. Without one that fits, full depth runs and
   * `stats.certificate` says why. `k` defaults to 10, `alpha` to whatever the certificate allows; `group` asks for the
   * certificate's guarantee within a group. `promise` is what must hold: `"exact"`, the default, or `"recall"`, for which a
   * share `alpha` of full depth's first k may be lost, on the mean of queries; an exact certificate keeps that too.
   */
  | {
      readonly type: "top-k";
      readonly k?: number;
      readonly alpha?: number;
      readonly group?: string;
      readonly promise?: "exact" | "recall";
    }
  /**
   * A document stops, wherever it ranks, once scoring it deeper is not expected to improve nDCG@k by much. How much was measured
   * in calibration: so that a mean share `compute` of full depth's FLOPs is spent, which promises nothing; or so that the mean
   * drop of nDCG@k, judged by full depth's own scores, is at most `loss`, with the calibration's confidence; full depth runs
   * where none has bounded it. `k` defaults to 10.
   */
  | { readonly type: "budget"; readonly compute: number; readonly loss?: never; readonly k?: number }
  | { readonly type: "budget"; readonly loss: number; readonly compute?: never; readonly k?: number }
  /**
   * A document stops where its largest softmax weight exceeds the layer's threshold: over {relevant, not}, or over the
   * list, which then stops as a whole. With `difficulty`, also where the first stage had settled it: its distance from
   * the first stage's rank-k boundary, 1 at the boundary and 0 farthest from it, is below `below`.
   */
  | {
      readonly type: "confidence";
      /** Threshold above 0 and at most 1, by exit layer. */
      readonly thresholds: Readonly<Record<number, number>>;
      /** Defaults to `"pair"`. */
      readonly over?: "pair" | "list";
      readonly difficulty?: { readonly below: number; readonly k?: number };
    };

/** What is promised about a call's first results. */
export type CertificateStatus =
  | { readonly holds: true; readonly statement: string }
  | { readonly holds: false; readonly reasons: readonly string[] };

/** Evidence on whether certificates hold on this traffic; see `docs/certificates.md`. */
export interface AuditReport {
  /** Queries that also ran at full depth, and those of them that would have lost anything, in the promise's terms. */
  readonly audited: number;
  readonly failures: number;
  /** Wealth of the bets against the certificate, now and at its highest. */
  readonly evidence: number;
  readonly peak: number;
  /** The certificate no longer describes this traffic: recalibrate. */
  readonly alarm: boolean;
}

export interface OpenOptions {
  /** Defaults to `"auto"`. */
  readonly device?: Device;
  /** Defaults to `"auto"`. */
  readonly dtype?: Dtype;
  /** Worker threads of the engine, at least 1. Defaults to the number of CPUs available to this process. */
  readonly threads?: number;
  /**
   * Runs this share of the queries under a certificate at full depth as well, in (0, 1], and keeps an anytime-valid test
   * of the certificate in `stats.audit`. Defaults to none.
   */
  readonly audit?: number;
}

/** A document: its text, or an object that holds it under `text` and is passed through untouched. */
export type Document = string | { readonly text: string };

export interface EncodeOptions {
  /** Longest sequence in tokens, special tokens included. Defaults to the model's own limit, at most 512. */
  readonly maxLength?: number;
  /** Defaults to `"document"`. */
  readonly truncation?: Truncation;
}

export interface RerankOptions extends EncodeOptions {
  /** How many results to return. Defaults to all. */
  readonly topN?: number;
  /** Defaults to `{ type: "full" }`. */
  readonly exit?: Exit;
  /** First-stage scores of the documents, in their order: what `confidence`'s difficulty reads. */
  readonly firstStageScores?: readonly number[];
  /**
   * Milliseconds after which the call ends at the next exit, with the best estimates so far and `stats.partial`. Every document
   * still gets a score: those that had not begun run to the first exit. On a GPU, a batch that has begun runs to its end.
   * Defaults to none.
   */
  readonly deadlineMs?: number;
  /** Defaults to `"sigmoid"`. */
  readonly activation?: Activation;
  /**
   * `"all"`, or exit layers whose logits each result carries under `logits`. None is deeper than `exit` runs. Defaults
   * to none.
   */
  readonly layers?: "all" | readonly number[];
  /** Whether results carry their `document`. Defaults to `false`. */
  readonly returnDocuments?: boolean;
  /** Aborts the call with `ERR_ABORTED`. */
  readonly signal?: AbortSignal;
}

export interface RerankResult<D extends Document = Document> {
  /** Position of the document in the input. */
  readonly index: number;
  /** The activated score, comparable within one call. */
  readonly score: number;
  /** The logit at `exitLayer`: raw where exact, else the compensated estimate of full depth's where the rule has one. */
  readonly logit: number;
  /** Layer at which this document stopped, 1-based. */
  readonly exitLayer: number;
  /** Whether the score is the one full depth gives. */
  readonly exact: boolean;
  /** Raw logits by exit layer, where `layers` asked for them. */
  readonly logits?: Readonly<Record<number, number>>;
  /** The document as passed in, where `returnDocuments` asked for it. */
  readonly document?: D;
}

export interface RerankStats {
  /** Sequences scored: documents, or windows under `"chunk-max"`. */
  readonly sequences: number;
  /** Tokens scored, special tokens included; there is no padding. */
  readonly tokens: number;
  /** Documents (or windows) that did not fit and were cut under `"document"`. */
  readonly truncated: number;
  /**
   * FLOPs spent over FLOPs of full depth, both without the last layer's unscored rows. 1 where nothing was scored. A query
   * that heads are conditioned on is not counted: it runs once for all its documents.
   */
  readonly computeFraction: number;
  /** Documents by the layer at which they stopped. */
  readonly exitHistogram: Readonly<Record<number, number>>;
  /** Whether a deadline ended the call before every document was done. Then no certificate holds. */
  readonly partial: boolean;
  /** Under `top-k` and `budget`: what is promised, or why nothing is. */
  readonly certificate?: CertificateStatus;
  /** Where the reranker audits its certificates: the evidence so far. */
  readonly audit?: AuditReport;
  /** Wall-clock milliseconds: tokenization on the event loop, the engine's own time, and the whole call. */
  readonly milliseconds: { readonly tokenize: number; readonly engine: number; readonly total: number };
}

export interface RerankResponse<D extends Document = Document> {
  /** Best first; ties keep the input order. Under `top-k`, documents that stopped come after all exact ones. */
  readonly results: readonly RerankResult<D>[];
  readonly stats: RerankStats;
}

/** One request of `rerankMany`. */
export interface RerankRequest<D extends Document = Document> {
  readonly query: string;
  readonly documents: readonly D[];
  /** Overrides the call's options for this request, where it is defined. */
  readonly options?: Omit<RerankOptions, "signal">;
}

export interface ScoreOptions extends EncodeOptions {
  /** Exit layers to return. Defaults to `"all"`. */
  readonly layers?: "all" | readonly number[];
  /** Whether to return the scoring rows too, on the CPU only. Defaults to false. */
  readonly states?: boolean;
  /** Aborts the call with `ERR_ABORTED`. */
  readonly signal?: AbortSignal;
}

export interface Pair {
  readonly query: string;
  readonly document: string;
}

export interface ScoreResponse {
  /** The exit layers scored, ascending. */
  readonly layers: readonly number[];
  /** By layer, the raw logit of each pair. Under `"chunk-max"`, of its best window at that layer. */
  readonly logits: Readonly<Record<number, Float32Array>>;
  /** [n] tokens of each pair, special tokens included. Under `"chunk-max"`, of all its windows. */
  readonly tokens: Int32Array;
  /**
   * By layer, where the model has compensations (`matryoshka compensate`): what the exit says of the final logit, and the
   * unit its uncertainty is measured in. At the last layer the logit itself, and 1.
   */
  readonly estimates?: Readonly<Record<number, Float32Array>>;
  readonly units?: Readonly<Record<number, Float32Array>>;
  /** With `states`: by layer [n × hidden], the row that the score head reads. */
  readonly states?: Readonly<Record<number, Float32Array>>;
  readonly stats: RerankStats;
}

/** Facts about an opened model. */
export interface ModelInfo {
  readonly directory: string;
  readonly family: string;
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly vocab: number;
  /** Longest sequence the model can take, in tokens. */
  readonly maxTokens: number;
  readonly exitLayers: readonly number[];
  /** [exits] share of the logit of the exit before in each exit's own: 0 at the first, and everywhere in most models. */
  readonly carry: readonly number[];
  /** Whether every exit but the last has a compensation: estimates and units beside its logits. */
  readonly compensated: boolean;
  readonly head: string;
  readonly parameters: number;
  /** Bytes of the weight files. */
  readonly fileBytes: number;
  /** Stored types of the tensors with their counts, e.g. { F16: 197, F32: 24 }. */
  readonly storedTypes: Readonly<Record<string, number>>;
  /** `provenance` of matryoshka.json, where there is one. */
  readonly provenance: unknown;
  /** What runs it, e.g. "cpu f32 avx512 2 threads"; absent in `inspect`, which packs nothing, as is the next. */
  readonly backend?: string;
  /** Arithmetic of its matrix products. */
  readonly dtype?: Exclude<Dtype, "auto">;
}
