/**
 * An opened model and everything that can be asked of it.
 */
import { throwIfAborted } from "./abort.js";
import { scoreBatches } from "./batches.js";
import { invalid } from "./check.js";
import { Collector } from "./collector.js";
import { MatryoshkaError } from "./errors.js";
import { inOrder } from "./in-order.js";
import { modelDirectory, modelInfo } from "./model-info.js";
import { fromNative, type NativeEngine, type NativeEngineInfo, type NativePlan, native } from "./native.js";
import {
  checkDocuments,
  checkOpen,
  checkPairs,
  checkQuery,
  checkRerank,
  checkScore,
  type ResolvedRerank,
} from "./options.js";
import { type EncodedQuery, PairEncoder, type PairEncoderOptions } from "./pair-encoder.js";
import { rank } from "./rank.js";
import { resolveOpen } from "./resolve.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";
import type {
  Document,
  ModelInfo,
  OpenOptions,
  Pair,
  RerankOptions,
  RerankRequest,
  RerankResponse,
  RerankStats,
  ScoreOptions,
  ScoreResponse,
} from "./types.js";

/** Requests of `rerankMany` that are under way at once. */
const LOOKAHEAD = 4;

/** Texts of the pairs to score, and what errors call the i-th document. */
interface Pairs {
  readonly count: number;
  readonly query: (i: number) => string;
  readonly document: (i: number) => string;
  readonly name: (i: number) => string;
}

/**
 * A layer-wise cross-encoder. Calls may overlap; they share one engine thread and are answered as they finish. Several
 * models may be open at once.
 *
 * ```ts
 * await using reranker = await Reranker.open();
 * const { results } = await reranker.rerank("what is a panda?", ["A bear of China.", "A kind of bread."]);
 * ```
 */
export class Reranker {
  /** Facts about the model and what runs it. */
  readonly info: ModelInfo;
  readonly #engine: NativeEngine;
  readonly #tokenizer: Tokenizer;
  readonly #typed: boolean;
  #closed = false;

  private constructor(engine: NativeEngine, tokenizer: Tokenizer, info: ModelInfo, typed: boolean) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.info = info;
    this.#typed = typed;
  }

  /**
   * Opens a checkpoint: a Hugging Face directory, with matryoshka.json and matryoshka.safetensors where it is
   * layer-wise. Defaults to the bundled model.
   *
   * Throws `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_INVALID`, `ERR_CONFIG_INVALID`, `ERR_UNSUPPORTED_ARCHITECTURE`,
   * `ERR_UNSUPPORTED_TOKENIZER`, `ERR_SAFETENSORS_INVALID`, `ERR_TENSOR_…`, `ERR_OUT_OF_MEMORY`, `ERR_NATIVE_NOT_FOUND`
   * and the errors of wrong options.
   */
  static async open(directory?: string, options: OpenOptions = {}): Promise<Reranker> {
    const path = modelDirectory(directory);
    const resolved = resolveOpen(checkOpen(options));
    let engine: NativeEngine | undefined;
    try {
      const { Engine } = native();
      engine = new Engine(path, resolved);
      // The engine's thread packs the weights while this one builds the tokenizer. A wrong directory fails both; the
      // engine's error says more.
      const [facts, tokenizer] = await Promise.allSettled([engine.ready, loadTokenizer(path)]);
      if (facts.status === "rejected") throw facts.reason;
      if (tokenizer.status === "rejected") throw tokenizer.reason;
      checkVocabulary(path, tokenizer.value, facts.value);
      const info = await modelInfo(path, facts.value);
      return new Reranker(engine, tokenizer.value, info, facts.value.tokenTypes > 1);
    } catch (error) {
      engine?.close();
      throw fromNative(error);
    }
  }

  /**
   * Scores every document for a query and sorts them, best first. Ties keep the input order.
   *
   * Throws `ERR_EMPTY_QUERY`, `ERR_INVALID_ARGUMENT`, `ERR_UNKNOWN_OPTION`, `ERR_INPUT_TOO_LONG`, `ERR_ABORTED`,
   * `ERR_CLOSED`.
   */
  async rerank<D extends Document>(
    query: string,
    documents: readonly D[],
    options: RerankOptions = {},
  ): Promise<RerankResponse<D>> {
    this.#assertOpen();
    checkQuery(query);
    checkDocuments(documents);
    return this.#rerank(query, documents, checkRerank(options, this.info));
  }

  /**
   * Answers many requests in their order, a few at once, reading no further ahead than that: a source of any length
   * needs bounded memory. `options` hold for every request that does not override them. The first request that fails
   * ends the sequence with its error. Leaving the loop early stops what is under way.
   */
  async *rerankMany<D extends Document>(
    requests: Iterable<RerankRequest<D>> | AsyncIterable<RerankRequest<D>>,
    options: RerankOptions = {},
  ): AsyncGenerator<RerankResponse<D>, void, undefined> {
    this.#assertOpen();
    const { signal } = checkRerank(options, this.info);
    yield* inOrder(requests, LOOKAHEAD, signal, async (request, i, stop) => {
      this.#assertOpen();
      const name = `requests[${i}]`;
      checkRequest(request, name);
      return this.#rerank(
        request.query,
        request.documents,
        checkRerank({ ...options, ...request.options, signal: stop }, this.info, `${name}.options`),
        `${name}.documents`,
      );
    });
  }

  /**
   * The raw logits of pairs at exit layers: trajectories for research, distillation or a rule of one's own. `layers`
   * only as deep as the deepest one asked for are run.
   */
  async score(pairs: readonly Pair[], options: ScoreOptions = {}): Promise<ScoreResponse> {
    this.#assertOpen();
    checkPairs(pairs);
    const { layers, signal, ...limits } = checkScore(options, this.info);
    const { collector, stats } = await this.#run(
      {
        count: pairs.length,
        query: (i) => pairs[i]!.query,
        document: (i) => pairs[i]!.document,
        name: (i) => `pairs[${i}].document`,
      },
      { depth: layers.at(-1)!, layers },
      limits,
      signal,
    );
    const logits: Record<number, Float32Array> = {};
    for (const layer of layers) logits[layer] = Float32Array.from(pairs, (_, i) => collector.logit(i, layer));
    return { layers, logits, stats };
  }

  /** Frees the model. Calls under way reject with `ERR_CLOSED`, and so do later ones. Closing twice is fine. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#engine.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #assertOpen(): void {
    if (this.#closed)
      throw new MatryoshkaError("ERR_CLOSED", "Expected an open reranker but it was closed. Open another one.");
  }

  async #rerank<D extends Document>(
    query: string,
    documents: readonly D[],
    options: ResolvedRerank,
    name = "documents",
  ): Promise<RerankResponse<D>> {
    const { depth, layers, signal } = options;
    const text = (document: Document) => (typeof document === "string" ? document : document.text);
    const { collector, stats } = await this.#run(
      {
        count: documents.length,
        query: () => query,
        document: (i) => text(documents[i]!),
        name: (i) => `${name}[${i}]`,
      },
      { depth, layers },
      options,
      signal,
    );
    return { results: rank(documents, collector, options, this.info.layers), stats };
  }

  async #run(pairs: Pairs, plan: NativePlan, limits: PairEncoderOptions, signal: AbortSignal | undefined) {
    throwIfAborted(signal);
    const start = performance.now();
    const encoder = new PairEncoder(this.#tokenizer, limits);
    const collector = new Collector(this.info, pairs.count);
    const tokenize = await scoreBatches(
      function* (batch) {
        let query: EncodedQuery | undefined;
        for (let i = 0; i < pairs.count; i++) {
          if (!query || pairs.query(i) !== pairs.query(i - 1)) {
            batch.endList();
            query = encoder.query(pairs.query(i));
          }
          yield* encoder.append(query, pairs.document(i), batch, i, pairs.name(i));
        }
      },
      { engine: this.#engine, plan, typed: this.#typed, signal },
      (batch) => collector.add(batch),
    );
    const stats: RerankStats = collector.stats({ tokenize, total: performance.now() - start }, encoder.truncated);
    return { collector, stats };
  }
}

function checkRequest(request: unknown, name: string): asserts request is RerankRequest {
  if (typeof request !== "object" || request === null)
    throw invalid("an object with query and documents", name, request);
  const { query, documents } = request as Partial<RerankRequest>;
  checkQuery(query, `${name}.query`);
  checkDocuments(documents, `${name}.documents`);
}

function checkVocabulary(directory: string, { size }: Tokenizer, { vocab }: NativeEngineInfo): void {
  if (size > vocab)
    throw new MatryoshkaError(
      "ERR_MODEL_INVALID",
      `Expected tokenizer.json of ${directory} to give ids below the ${vocab} rows of the model's embedding, but it ` +
        `goes up to ${size - 1}. The two belong to different checkpoints.`,
    );
}
