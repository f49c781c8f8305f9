/**
 * The public types: what callers pass in and get back.
 */

/** Where the model runs. "auto" is the fastest device this machine has; "reference" is the double-precision oracle. */
export type Device = "auto" | "cpu" | "reference";

/** Arithmetic of the matrix products. "auto" is the fastest one that this machine runs well; see `docs/devices.md`. */
export type Dtype = "auto" | "f32" | "bf16" | "int8";

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

/** When a document stops. Full depth for everybody, or the same earlier layer for everybody. */
export type Exit = { readonly type: "full" } | { readonly type: "layer"; readonly layer: number };

export interface OpenOptions {
  /** Defaults to `"auto"`. */
  readonly device?: Device;
  /** Defaults to `"auto"`. */
  readonly dtype?: Dtype;
  /** Worker threads of the engine, at least 1. Defaults to the number of CPUs available to this process. */
  readonly threads?: number;
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
  /** Defaults to `"sigmoid"`. */
  readonly activation?: Activation;
  /** `"all"`, or exit layers whose logits each result carries under `logits`. None is deeper than `exit` runs. Defaults to none. */
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
  /** The raw logit at `exitLayer`. */
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
  /** FLOPs spent over FLOPs of full depth, both without the last layer's unscored rows. 1 where nothing was scored. */
  readonly computeFraction: number;
  /** Documents by the layer at which they stopped. */
  readonly exitHistogram: Readonly<Record<number, number>>;
  /** Wall-clock milliseconds: tokenization on the event loop, the engine's own time, and the whole call. */
  readonly milliseconds: { readonly tokenize: number; readonly engine: number; readonly total: number };
}

export interface RerankResponse<D extends Document = Document> {
  /** Best first; ties keep the input order. */
  readonly results: readonly RerankResult<D>[];
  readonly stats: RerankStats;
}

/** One request of `rerankMany`. */
export interface RerankRequest<D extends Document = Document> {
  readonly query: string;
  readonly documents: readonly D[];
  /** Overrides the call's options for this request. */
  readonly options?: Omit<RerankOptions, "signal">;
}

export interface ScoreOptions extends EncodeOptions {
  /** Exit layers to return. Defaults to `"all"`. */
  readonly layers?: "all" | readonly number[];
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
  readonly head: string;
  readonly parameters: number;
  /** Bytes of the weight files. */
  readonly fileBytes: number;
  readonly storedTypes: Readonly<Record<string, number>>;
  /** `provenance` of matryoshka.json, where there is one. */
  readonly provenance: unknown;
  /** What runs it, e.g. "cpu f32 avx512 2 threads"; absent in `inspect`, which packs nothing. */
  readonly backend?: string;
}
