/**
 * An opened model and everything that can be asked of it.
 */
import { throwIfAborted, untilAborted } from "./abort.js";
import { scoreBatches } from "./batches.js";
import { Audit } from "./certify/audit.js";
import type { Certificate } from "./certify/certificate.js";
import { lossOf } from "./certify/losses.js";
import { defined, invalid } from "./check.js";
import { Collector } from "./collector.js";
import { EnginePool } from "./engine-pool.js";
import { MatryoshkaError } from "./errors.js";
import { firstStageDifficulty } from "./exit/confidence.js";
import type { Rule } from "./exit/rule.js";
import { checkRuleInputs, type ExitPlan, type Promised, planExit } from "./exit-plan.js";
import { type Hashes, hashes } from "./fingerprint.js";
import { inOrder } from "./in-order.js";
import { unmarkedIds } from "./match-types.js";
import { marksMatches, modelDirectory, modelInfo, readCertificates } from "./model-info.js";
import { fromNative, type NativeEngineInfo, type NativeOptions, type NativePlan, native } from "./native.js";
import { nativeRule } from "./native-rule.js";
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
  CertificateStatus,
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

/** Documents of one list that share a batch under a rule; a longer list is decided about in parts of this size. */
const LONGEST_LIST = 1024;

/** Texts of the pairs to score, and what errors call the i-th document. */
interface Pairs {
  readonly count: number;
  readonly query: (i: number) => string;
  readonly document: (i: number) => string;
  readonly name: (i: number) => string;
}

/** What is left of a promise about full depth where a pass did not get there. */
const CUT_SHORT: CertificateStatus = { holds: false, reasons: ["The deadline ended the call before full depth."] };

/** How `#run` runs them. */
interface Run extends PairEncoderOptions {
  readonly plan: NativePlan;
  /** `performance.now()` when the call began: what its deadline and its time count from. */
  readonly start: number;
  readonly deadlineMs?: number;
  readonly signal: AbortSignal | undefined;
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
  readonly #engine: EnginePool;
  readonly #tokenizer: Tokenizer;
  readonly #typed: boolean;
  readonly #unmarked: ReadonlySet<number> | undefined;
  readonly #dtype: NativeOptions["dtype"];
  readonly #certificates: readonly Certificate[];
  readonly #auditRate: number | undefined;
  /** By what was promised. */
  readonly #audits = new Map<string, Audit>();
  #hashes: Promise<Hashes> | undefined;
  #closed = false;

  private constructor(
    engine: EnginePool,
    tokenizer: Tokenizer,
    info: ModelInfo,
    options: {
      typed: boolean;
      unmarked: ReadonlySet<number> | undefined;
      dtype: NativeOptions["dtype"];
      certificates: readonly Certificate[];
      audit?: number;
    },
  ) {
    this.#engine = engine;
    this.#tokenizer = tokenizer;
    this.info = info;
    this.#typed = options.typed;
    this.#unmarked = options.unmarked;
    this.#dtype = options.dtype;
    this.#certificates = options.certificates;
    this.#auditRate = options.audit;
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
    let engine: EnginePool | undefined;
    try {
      const { Engine } = native();
      engine = new EnginePool(resolved.engines.map((each) => new Engine(path, each)));
      // The engine's thread packs the weights while this one builds the tokenizer. A wrong directory fails both; the
      // engine's error says more.
      const [facts, tokenizer] = await Promise.allSettled([engine.ready, loadTokenizer(path)]);
      if (facts.status === "rejected") throw facts.reason;
      if (tokenizer.status === "rejected") throw tokenizer.reason;
      checkVocabulary(path, tokenizer.value, facts.value);
      const info = await modelInfo(path, facts.value);
      const certificates = await readCertificates(path);
      const typed = facts.value.tokenTypes > 1;
      const marks = await marksMatches(path, facts.value.tokenTypes);
      const unmarked = marks ? unmarkedIds(tokenizer.value) : undefined;
      const { dtype } = resolved;
      const facets = { typed, unmarked, dtype, certificates, ...(audit && { audit }) };
      return new Reranker(engine, tokenizer.value, info, facets);
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
    const { collector, stats } = await this.#run(
      {
        count: own.length,
        query: (i) => own[i]!.query,
        document: (i) => own[i]!.document,
        name: (i) => `pairs[${i}].document`,
      },
      { plan: { depth: layers.at(-1)!, layers, states }, start, signal, ...limits },
    );
    const { estimates, units, states: rows } = collector;
    const byLayer = (values: Float32Array, width = 1) => this.#byLayer(layers, values, width);
    return {
      layers,
      logits: byLayer(collector.logits),
      tokens: collector.tokens,
      ...(estimates && units && { estimates: byLayer(estimates), units: byLayer(units) }),
      ...(rows && { states: byLayer(rows, this.info.hidden) }),
      stats,
    };
  }

  /** `values` are [n × exits × width], row by document. */
  #byLayer(layers: readonly number[], values: Float32Array, width: number): Record<number, Float32Array> {
    const { exitLayers } = this.info;
    const n = values.length / (exitLayers.length * width);
    return Object.fromEntries(
      layers.map((layer) => {
        const out = new Float32Array(n * width);
        for (let i = 0; i < n; i++) {
          const from = (i * exitLayers.length + exitLayers.indexOf(layer)) * width;
          out.set(values.subarray(from, from + width), i * width);
        }
        return [layer, out];
      }),
    );
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
    const { rule, certificate, holds } = await this.#plan(options, own.length);
    checkRuleInputs(rule, options.firstStageScores, own.length);
    const audit = holds && this.#audit(holds);
    const audited = audit?.pick() === true;
    const { collector, stats } = await this.#run(
      {
        count: own.length,
        query: () => query,
        document: (i) => texts[i]!,
        name: (i) => `${name}[${i}]`,
      },
      { ...options, start, plan: audited ? this.#fullPlan() : this.#nativePlan(rule, options) },
    );
    // A pass that a deadline cut short is no evidence of anything.
    if (audited && !stats.partial) audit.record(this.#loss(rule, holds!, collector));
    const said = certificate?.holds && stats.partial ? CUT_SHORT : certificate;
    return {
      results: rank(own, collector, options, audited ? { type: "full" } : rule, this.info.layers),
      stats: { ...stats, ...(said && { certificate: said }), ...(audit && { audit: audit.state() }) },
    };
  }

  async #plan({ exit, maxLength, signal }: ResolvedRerank, candidates: number): Promise<ExitPlan> {
    const certified = exit.type !== "full" && exit.type !== "layer" && this.#certificates.length > 0;
    const hashed = certified ? await untilAborted(this.#hashed(), signal) : { modelHash: "", tokenizerHash: "" };
    return planExit(exit, this.#certificates, { ...hashed, dtype: this.#dtype, maxLength, candidates });
  }

  /** Hashing the model's files takes a moment, so it happens when a certificate may matter, once. */
  #hashed(): Promise<Hashes> {
    this.#hashes ??= hashes(this.info.directory).catch((error) => {
      this.#hashes = undefined;
      throw error;
    });
    return this.#hashes;
  }

  #nativePlan(rule: Rule, { depth, layers, deadlineMs, firstStageScores }: ResolvedRerank): NativePlan {
    // A deadline ends the pass where it has scored, so every exit scores.
    const scored = deadlineMs === undefined ? layers : this.info.exitLayers.filter((layer) => layer <= depth);
    if (rule.type === "full" || rule.type === "layer") return { depth, layers: scored };
    const difficulty =
      rule.type === "confidence" && rule.difficulty
        ? firstStageDifficulty(firstStageScores!, rule.difficulty.k)
        : undefined;
    return { depth, layers: scored, rule: nativeRule(rule, difficulty) };
  }

  #fullPlan(): NativePlan {
    return { depth: this.info.layers, layers: this.info.exitLayers };
  }

  #audit({ statement, allowed }: Promised): Audit | undefined {
    // A promise that everything may be lost cannot fail.
    if (this.#auditRate === undefined || allowed >= 1) return undefined;
    const known = this.#audits.get(statement);
    if (known) return known;
    const audit = new Audit({ alpha: allowed, rate: this.#auditRate });
    this.#audits.set(statement, audit);
    return audit;
  }

  /** What the rule would have lost on the full pass that `collector` holds. */
  #loss(rule: Rule, { loss, k }: Promised, { logits, estimates, units, tokens }: Collector): number {
    const documents = Array.from(tokens, (_, i) => String(i));
    const list = { query: "", documents, tokens, scores: logits, estimates, units };
    return lossOf(loss, rule, list, this.info.exitLayers, k);
  }

  async #run(pairs: Pairs, { plan, start, signal, deadlineMs, ...limits }: Run) {
    throwIfAborted(signal);
    const deadline = deadlineMs === undefined ? undefined : start + deadlineMs;
    const encoder = new PairEncoder(this.#tokenizer, { ...limits, unmarked: this.#unmarked });
    const collector = new Collector(this.info, pairs.count, plan.states);
    const tokenize = await scoreBatches(
      function* (batch) {
        let query: EncodedQuery | undefined;
        for (let i = 0; i < pairs.count; i++) {
          // A rule compares documents with each other, so what it decides about together stays in one batch.
          const decided = plan.rule !== undefined && i % LONGEST_LIST === 0;
          const fresh = !query || pairs.query(i) !== pairs.query(i - 1);
          if (fresh || decided) batch.endList();
          if (fresh) query = encoder.query(pairs.query(i));
          const cut = !plan.rule || (i + 1) % LONGEST_LIST === 0;
          for (const whole of encoder.append(query!, pairs.document(i), batch, i, pairs.name(i))) yield whole && cut;
        }
      },
      { engine: this.#engine, engines: this.#engine.size, plan, deadline, typed: this.#typed, signal },
      (batch) => collector.add(batch),
    );
    const stats: RerankStats = collector.stats({ tokenize, total: performance.now() - start }, encoder.truncated);
    return { collector, stats };
  }
}

function checkRequests(requests: unknown): void {
  const source = typeof requests === "object" && requests !== null ? requests : {};
  if (!(Symbol.asyncIterator in source || Symbol.iterator in source))
    throw invalid("an iterable or async iterable of { query, documents }", "requests", requests);
}

function checkRequest(request: unknown, name: string): asserts request is RerankRequest {
  if (typeof request !== "object" || request === null)
    throw invalid("an object with query and documents", name, request);
  const { query, documents, options = {} } = request as Partial<RerankRequest>;
  checkQuery(query, `${name}.query`);
  checkDocuments(documents, `${name}.documents`);
  if (typeof options !== "object" || options === null) throw invalid("an object", `${name}.options`, options);
  if ("signal" in options && options.signal !== undefined)
    throw invalid("none, because the whole call has one,", `${name}.options.signal`, options.signal);
}

function checkVocabulary(directory: string, { size }: Tokenizer, { vocab }: NativeEngineInfo): void {
  if (size > vocab)
    throw new MatryoshkaError(
      "ERR_MODEL_INVALID",
      `Expected tokenizer.json of ${directory} to give ids below the ${vocab} rows of the model's embedding, but it ` +
        `goes up to ${size - 1}. The two belong to different checkpoints.`,
    );
}
