/**
 * Exit rules as plain data: everything a device needs to decide who stops, and nothing it has to look up.
 */

/** Runs every document to full depth. */
export interface FullRule {
  readonly type: "full";
}

/** Runs every document to one exit layer and ranks by that exit's raw score. */
export interface LayerRule {
  readonly type: "layer";
  readonly layer: number;
}

/**
 * Estimate of the final score from an exit's own: a = slope · s + offset, where s is the logit or, if the model has
 * compensations, what they make of it. The identity is slope 1, offset 0.
 */
export interface Compensation {
  readonly slope: number;
  readonly offset: number;
}

/**
 * One exit of a rule: its estimate, and how uncertain that is. A document's half-width per unit of scale is
 * c = width · unit + trend · |a_j − a_(j−1)| + spread · g, with a_(j−1) the estimate at the rule's previous exit (at the
 * first exit the change is 0), the unit 1 unless the model's compensations predict one, and g the list's spread: how far
 * apart the changes of its documents are from the rule's first exit to its second, largest less smallest. A rule with any
 * spread stops nobody at its first exit, so that g is of the whole list. width > 0; trend, spread ≥ 0.
 */
export interface ExitHead extends Compensation {
  readonly layer: number;
  readonly width: number;
  readonly trend: number;
  /** Default 0. */
  readonly spread?: number;
}

/**
 * Out-only pruning: at each exit a document stops once `a + scale · c` falls below the k-th largest `a − scale · c` of
 * those still running; all others run to full depth. Certified when `scale` comes from a certificate.
 */
export interface TopKRule {
  readonly type: "top-k";
  readonly k: number;
  readonly scale: number;
  /** In ascending depth, all before full depth. */
  readonly exits: readonly ExitHead[];
}

/** One exit of a confidence rule. */
export interface ConfidenceExit extends Compensation {
  readonly layer: number;
  /** Stop when the confidence exceeds this, in [0, 1]; 1 switches the test off. */
  readonly threshold: number;
}

/**
 * Stops a document when c = max(softmax(s')) exceeds the exit's threshold or its difficulty is below `easy`. Over
 * `"pair"`, the softmax is over {relevant, not} with the compensated logit; over `"list"`, it is over the documents
 * still running, and all of them stop at once. Difficulty is `firstStageDifficulty` at rank `k`.
 */
export interface ConfidenceRule {
  readonly type: "confidence";
  readonly over: "pair" | "list";
  /** Leaving it out switches the difficulty test off. */
  readonly difficulty?: { readonly easy: number; readonly k: number };
  readonly exits: readonly ConfidenceExit[];
}

/**
 * Spends where it matters to the ranking: a document stops, wherever it ranks, once the improvement of DCG@k that scoring it
 * deeper is expected to make is below `stake`. Promises nothing.
 */
export interface BudgetRule {
  readonly type: "budget";
  readonly k: number;
  /** In DCG of gains that sum to 1. 0 stops nobody. */
  readonly stake: number;
  /** In ascending depth, all before full depth. */
  readonly exits: readonly ExitHead[];
}

/** What an engine runs. */
export type Rule = FullRule | LayerRule | TopKRule | BudgetRule | ConfidenceRule;

/** Who stopped where, and the estimate at that exit: what each rule's own file decides. */
export interface Stops {
  /** [m] index into the rule's exits, or −1 for full depth. */
  readonly exit: Int8Array;
  /** [m] float32 estimate where stopped. */
  readonly estimate: Float32Array;
}
