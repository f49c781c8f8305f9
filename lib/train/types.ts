/**
 * What the parts of training pass to each other: the configuration that reproduces a run, and the lists it learns from.
 */
import type { NativeBatch } from "../native-engine.js";
import type { NativeLoss, NativeTrainBatch } from "../native-trainer.js";

/** One source of training lists. Paths are relative to the configuration file. */
export interface TrainSource {
  /**
   * A BEIR directory (needs `run`), or a FlagEmbedding file of JSON lines, .gz or not:
   * `{query, pos[], neg[], pos_scores[]?, neg_scores[]?, prompt?}`.
   */
  readonly path: string;
  /** Short name in reports. Default: the last part of the path. */
  readonly name?: string;
  /** BEIR: the split of the qrels. Default "train". */
  readonly split?: string;
  /** BEIR: TREC run relative to `path` whose candidates are the list's negatives. */
  readonly run?: string;
  /**
   * BEIR: TREC runs relative to the configuration file whose scores are external teachers, one for each of
   * `loss.teachers`. Candidates of the run without a score are unscored by that teacher. JSON lines: `pos_scores` and
   * `neg_scores` are the first teacher.
   */
  readonly teachers?: readonly string[];
  /** Candidates of the run considered. Default 30. */
  readonly depth?: number;
  /** Lists used, drawn with the seed. Default: all. */
  readonly limit?: number;
  /** Share of lists drawn from this source, relative to the others'. Default: its number of lists. */
  readonly weight?: number;
}

/** Published as lib/train/train.schema.json; docs/training.md explains each. Defaults are applied by readConfig. */
export interface TrainConfig {
  /** A Hugging Face encoder or layer-wise checkpoint to start from. */
  readonly init: string;
  /** Default: the checkpoint's own, or every layer. */
  readonly exitLayers?: readonly number[];
  /**
   * What a score is read off by: "linear", w · h + b, or "query", (w + M q) · h + b, where q is the query's own row after the
   * same layer. Default: the checkpoint's own, or "linear".
   */
  readonly head?: "linear" | "query";
  /**
   * Share of the logit of the exit before in each exit's own, one for each exit layer, the first of them 0. Default: the
   * checkpoint's own where the exit layers are, or none.
   */
  readonly carry?: readonly number[];
  /** "match": tokens whose id also occurs on the other side have a type of their own. Default: the checkpoint's own, or "segment". */
  readonly tokenTypes: "segment" | "match";
  /** Most tokens of a pair, and of its query. Defaults 256 and 64. */
  readonly maxLength: number;
  readonly maxQueryLength: number;
  readonly seed: number;
  readonly dtype: "f32" | "bf16";
  readonly steps: number;
  /** Lists of one step (any number: they go through the model in turns of `turnTokens`). */
  readonly listsPerStep: number;
  /** Documents of one list: one positive where there is one, the rest negatives. */
  readonly listSize: number;
  readonly turnTokens: number;
  readonly recompute: boolean;
  readonly layerDropout: number;
  readonly sources: readonly TrainSource[];
  readonly negatives: {
    /** Share of a list's negatives drawn from the whole source instead of the query's own candidates. */
    readonly random: number;
    /** A candidate whose first teacher's score exceeds the best positive's by this is taken for a false negative and left out. */
    readonly falseNegativeMargin?: number;
    /** Steps after which the model in training scores candidates anew and negatives are drawn from its own top. */
    readonly rounds: readonly number[];
    /** Candidates kept of those scored in a round, by score. */
    readonly keep: number;
    /** Queries mined in a round; the others keep what they have. */
    readonly queries: number;
  };
  readonly loss: NativeLoss;
  readonly optimizer: {
    /** Peak rates. An encoder at 0 stays as it is: nothing goes back through it, and `clip` is about the heads' gradient. */
    readonly encoder: number;
    readonly heads: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly epsilon: number;
    readonly weightDecay: number;
    readonly clip: number;
    /** Share of the steps over which rates rise from 0. */
    readonly warmup: number;
    readonly decay: "linear" | "cosine" | "constant";
  };
  readonly validation: {
    /** Steps between validations. */
    readonly every: number;
    /** BEIR directories, as `sources`; nDCG@10 of reranking `run` at every exit. */
    readonly sets: readonly {
      readonly path: string;
      readonly split: string;
      readonly run: string;
      readonly queries?: number;
      readonly depth?: number;
    }[];
  };
  readonly checkpoint: {
    /** Steps between checkpoints. */
    readonly every: number;
  };
}

/** A query and all that is known about its candidates, as text: what a step's lists are drawn from. */
export interface Candidate {
  readonly text: string;
  /** Relevance in [0, 1], NaN where unlabelled. */
  readonly label: number;
  /** One score for each teacher, NaN where it gave none. */
  readonly teachers: readonly number[];
}

/** One list of a step. */
export interface TrainList {
  readonly query: string;
  readonly candidates: readonly Candidate[];
}

/**
 * Where lists come from. `draw(step)` depends on the seed, the step and the rounds mined so far only, so a resumed run
 * draws what an undisturbed one would.
 */
export interface ListSource {
  /** Lists there are, and what was skipped, by source. */
  readonly summary: readonly {
    readonly name: string;
    readonly lists: number;
    readonly candidates: number;
    readonly skipped: number;
  }[];
  draw(step: number): TrainList[];
  /** Candidates to score in round `round` (0, 1, …): drawn with the seed, in a fixed order. */
  mining(
    round: number,
  ): Iterable<{ readonly key: string; readonly query: string; readonly documents: readonly string[] }>;
  /** What the model said: from now on the key's negatives come from its `keep` best-scored candidates that are not false negatives. */
  mined(key: string, scores: readonly number[]): void;
}

/** Texts to batches as the configuration says: lengths, token types. Made by `makeEncoder` of encode.ts; used by the loop. */
export interface TrainEncoder {
  /** Lists of a step, labels and teachers included. */
  lists(lists: readonly TrainList[]): NativeTrainBatch;
  /** Pairs of one query, in their order, as one list: for validation and mining. */
  pairs(query: string, documents: readonly string[]): NativeBatch;
}
