/**
 * An opened model and everything that can be asked of it.
 */
import { throwIfAborted } from "./abort.js";
import { defined } from "./check.js";
import { EnginePool } from "./engine-pool.js";
import { MatryoshkaError } from "./errors.js";
import { ExitPlanner } from "./exit-planner.js";
import { inOrder } from "./in-order.js";
import { checkDocuments, checkPairs, checkQuery, checkRequest, checkRequests } from "./inputs.js";
import { unmarkedIds } from "./match-types.js";
import { marksMatches, modelDirectory, modelInfo, readCertificates } from "./model-info.js";
import { fromNative, native } from "./native.js";
import type { NativeEngineInfo } from "./native-engine.js";
import { checkOpen, checkRerank, checkScore, type ResolvedRerank } from "./options.js";
import { PairScorer } from "./pair-scorer.js";
import { rank } from "./rank.js";
import { type ResolvedOpen, resolveOpen } from "./resolve.js";
import { loadTokenizer, type Tokenizer } from "./tokenizer.js";
import type {
  CertificateStatus,
  Document,
  ModelInfo,
  OpenOptions,
  Pair,
  RerankOptions,
  RerankRequest,
  RerankResponse,
  ScoreOptions,
  ScoreResponse,
} from "./types.js";

/** Requests of `rerankMany` that are under way at once. */
const LOOKAHEAD = 4;

/** What is left of a promise about full depth where a pass did not get there. */
const CUT_SHORT: CertificateStatus = { holds: false, reasons: ["The deadline ended the call before full depth."] };

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
  readonly #engine: EnginePool;
  readonly #scorer: PairScorer;
  readonly #planner: ExitPlanner;
  #closed = false;

  private constructor(info: ModelInfo, engine: EnginePool, scorer: PairScorer, planner: ExitPlanner) {
    this.info = info;
    this.#engine = engine;
    this.#scorer = scorer;
    this.#planner = planner;
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
    const { audit, ...rest } = checkOpen(options);
    const resolved = resolveOpen(rest);
    try {
      return await Reranker.#open(path, resolved, audit);
    } catch (error) {
      if (!resolved.fallback) throw error;
      return Reranker.#open(path, resolved.fallback, audit);
    }
  }

  static async #open(path: string, { engines, dtype }: ResolvedOpen, audit: number | undefined): Promise<Reranker> {
    let engine: EnginePool | undefined;
    try {
      const { Engine } = native();
      engine = new EnginePool(engines.map((each) => new Engine(path, each)));
      // The engine's thread packs the weights while this one builds the tokenizer. A wrong directory fails both; the
      // engine's error says more.
      const [facts, tokenizer] = await Promise.allSettled([engine.ready, loadTokenizer(path)]);
      if (facts.status === "rejected") throw facts.reason;
      if (tokenizer.status === "rejected") throw tokenizer.reason;
      checkVocabulary(path, tokenizer.value, facts.value);
      const info: ModelInfo = { ...(await modelInfo(path, facts.value)), dtype };
      const certificates = await readCertificates(path);
      const marks = await marksMatches(path, facts.value.tokenTypes);
      const scorer = new PairScorer({
        engine,
        tokenizer: tokenizer.value,
        model: info,
        typed: facts.value.tokenTypes > 1,
        unmarked: marks ? unmarkedIds(tokenizer.value) : undefined,
      });
      const { exitLayers } = info;
      const planner = new ExitPlanner({ directory: path, exitLayers, certificates, dtype, auditRate: audit });
      return new Reranker(info, engine, scorer, planner);
    } catch (error) {
      engine?.close();
      throw fromNative(error);
    }
  }

  /**
   * Scores every document for a query and sorts them, best first. Ties keep the input order.
   *
   * Throws `ERR_EMPTY_QUERY`, `ERR_INVALID_ARGUMENT`, `ERR_UNKNOWN_OPTION`, `ERR_INPUT_TOO_LONG`, `ERR_OUT_OF_MEMORY`,
   * `ERR_FILE`, `ERR_ABORTED`, `ERR_CLOSED`.
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
    checkRequests(requests);
    yield* inOrder(requests, LOOKAHEAD, signal, async (request, i, stop) => {
      this.#assertOpen();
      const name = `requests[${i}]`;
      checkRequest(request, name);
      return this.#rerank(
        request.query,
        request.documents,
        checkRerank({ ...options, ...defined(request.options ?? {}), signal: stop }, this.info, `${name}.options`),
        `${name}.documents`,
      );
    });
  }

  /**
   * The raw logits of pairs at exit layers: trajectories for research, distillation or a rule of one's own. Blocks run
   * only as deep as the deepest of `layers`.
   *
   * Throws `ERR_EMPTY_QUERY`, `ERR_INVALID_ARGUMENT`, `ERR_UNKNOWN_OPTION`, `ERR_INPUT_TOO_LONG`, `ERR_OUT_OF_MEMORY`,
   * `ERR_ABORTED`, `ERR_CLOSED`.
   */
  async score(pairs: readonly Pair[], options: ScoreOptions = {}): Promise<ScoreResponse> {
    this.#assertOpen();
    checkPairs(pairs);
    const start = performance.now();
    const { layers, states, signal, ...limits } = checkScore(options, this.info);
    // The caller may fill its own array anew while this call reads on.
    const own = pairs.map(({ query, document }) => ({ query, document }));
    const { collector, stats } = await this.#scorer.run(
      {
        count: own.length,
        query: (i) => own[i]!.query,
        document: (i) => own[i]!.document,
        name: (i) => `pairs[${i}].document`,
      },
      { plan: { depth: layers.at(-1)!, layers, states }, start, signal, ...limits },
    );
    const { estimates, units, states: rows } = collector;
    const byLayer = (values: Float32Array, width?: number) => collector.byLayer(values, layers, width);
    return {
      layers,
      logits: byLayer(collector.logits),
      tokens: collector.tokens,
      ...(estimates && units && { estimates: byLayer(estimates), units: byLayer(units) }),
      ...(rows && { states: byLayer(rows, this.info.hidden) }),
      stats,
    };
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
    const start = performance.now();
    throwIfAborted(options.signal);
    // The caller may fill its own array anew while this call reads on.
    const own = documents.slice();
    const texts = own.map((document) => (typeof document === "string" ? document : document.text));
    const { rule, certificate, holds } = await this.#planner.plan(options, own.length);
    const audit = holds && this.#planner.audit(holds);
    const audited = audit?.pick() === true;
    const { collector, stats } = await this.#scorer.run(
      {
        count: own.length,
        query: () => query,
        document: (i) => texts[i]!,
        name: (i) => `${name}[${i}]`,
      },
      { ...options, start, plan: audited ? this.#planner.fullPlan() : this.#planner.nativePlan(rule, options) },
    );
    // A pass that a deadline cut short is no evidence of anything.
    if (audited && !stats.partial) audit.record(this.#planner.loss(rule, holds!, collector));
    const said = certificate?.holds && stats.partial ? CUT_SHORT : certificate;
    return {
      results: rank(own, collector, options, audited ? { type: "full" } : rule, this.info.layers),
      stats: { ...stats, ...(said && { certificate: said }), ...(audit && { audit: audit.state() }) },
    };
  }
}

function checkVocabulary(directory: string, { size }: Tokenizer, { vocab }: NativeEngineInfo): void {
  if (size > vocab)
    throw new MatryoshkaError(
      "ERR_MODEL_INVALID",
      `Expected tokenizer.json of ${directory} to give ids below the ${vocab} rows of the model's embedding, but it ` +
        `goes up to ${size - 1}. The two belong to different checkpoints.`,
    );
}
