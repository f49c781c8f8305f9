/**
 * Scores pairs of texts: tokenizes them into batches, lets the engine run a plan, and collects what comes back.
 */
import { throwIfAborted } from "./abort.js";
import { scoreBatches } from "./batches.js";
import { Collector, type CollectorModel } from "./collector.js";
import type { EnginePool } from "./engine-pool.js";
import type { NativePlan } from "./native-engine.js";
import { type EncodedQuery, PairEncoder, type PairEncoderOptions } from "./pair-encoder.js";
import type { Tokenizer } from "./tokenizer.js";
import type { RerankStats } from "./types.js";

/** Documents of one list that share a batch under a rule; a longer list is decided about in parts of this size. */
const LONGEST_LIST = 1024;

/** Texts of the pairs to score, and what errors call the i-th document. */
export interface Pairs {
  readonly count: number;
  readonly query: (i: number) => string;
  readonly document: (i: number) => string;
  readonly name: (i: number) => string;
}

/** How they are scored. */
export interface PairRun extends Omit<PairEncoderOptions, "unmarked"> {
  readonly plan: NativePlan;
  /** `performance.now()` when the call began: what its deadline and its time count from. */
  readonly start: number;
  readonly deadlineMs?: number;
  readonly signal: AbortSignal | undefined;
}

/** What of an opened model scores. */
export interface PairScorerOptions {
  readonly engine: EnginePool;
  readonly tokenizer: Tokenizer;
  readonly model: CollectorModel;
  /** Whether the model knows token types. */
  readonly typed: boolean;
  /** Ids that match marks leave out; undefined where the model has no marks. */
  readonly unmarked: ReadonlySet<number> | undefined;
}

export class PairScorer {
  readonly #options: PairScorerOptions;

  constructor(options: PairScorerOptions) {
    this.#options = options;
  }

  /** Throws the errors of `Reranker.score`. */
  async run(
    pairs: Pairs,
    { plan, start, signal, deadlineMs, ...limits }: PairRun,
  ): Promise<{ collector: Collector; stats: RerankStats }> {
    throwIfAborted(signal);
    const { engine, tokenizer, model, typed, unmarked } = this.#options;
    const deadline = deadlineMs === undefined ? undefined : start + deadlineMs;
    const encoder = new PairEncoder(tokenizer, { ...limits, unmarked });
    const collector = new Collector(model, pairs.count, plan.states);
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
      { engine, engines: engine.size, plan, deadline, typed, signal },
      (batch) => collector.add(batch),
    );
    const stats = collector.stats({ tokenize, total: performance.now() - start }, encoder.truncated);
    return { collector, stats };
  }
}
