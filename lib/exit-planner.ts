/**
 * An opened model's certificates at work: which rule a request runs under, and the audit of what it was promised.
 */
import { untilAborted } from "./abort.js";
import { Audit } from "./certify/audit.js";
import type { Certificate } from "./certify/certificate.js";
import { lossOf } from "./certify/losses.js";
import type { Collector } from "./collector.js";
import { firstStageDifficulty } from "./exit/confidence.js";
import type { Rule } from "./exit/rule.js";
import { checkRuleInputs, type ExitPlan, type Promised, planExit } from "./exit-plan.js";
import { type Hashes, hashes } from "./fingerprint.js";
import type { NativeOptions, NativePlan } from "./native-engine.js";
import { nativeRule } from "./native-rule.js";
import type { ResolvedRerank } from "./options.js";

export interface ExitPlannerOptions {
  readonly directory: string;
  readonly exitLayers: readonly number[];
  readonly certificates: readonly Certificate[];
  readonly dtype: NativeOptions["dtype"];
  /** Share of certified calls that are audited; undefined audits none. */
  readonly auditRate: number | undefined;
}

export class ExitPlanner {
  readonly #options: ExitPlannerOptions;
  /** By what was promised. */
  readonly #audits = new Map<string, Audit>();
  #hashes: Promise<Hashes> | undefined;

  constructor(options: ExitPlannerOptions) {
    this.#options = options;
  }

  /** The rule that answers a request about so many candidates. Throws `ERR_INVALID_ARGUMENT`, `ERR_FILE`, `ERR_ABORTED`. */
  async plan({ exit, maxLength, firstStageScores, signal }: ResolvedRerank, candidates: number): Promise<ExitPlan> {
    const { certificates, dtype } = this.#options;
    const certified = exit.type !== "full" && exit.type !== "layer" && certificates.length > 0;
    const hashed = certified ? await untilAborted(this.#hashed(), signal) : { modelHash: "", tokenizerHash: "" };
    const plan = planExit(exit, certificates, { ...hashed, dtype, maxLength, candidates });
    checkRuleInputs(plan.rule, firstStageScores, candidates);
    return plan;
  }

  /** What the engine runs under a rule. */
  nativePlan(rule: Rule, { depth, layers, deadlineMs, firstStageScores }: ResolvedRerank): NativePlan {
    // A deadline ends the pass where it has scored, so every exit scores.
    const scored = deadlineMs === undefined ? layers : this.#options.exitLayers.filter((layer) => layer <= depth);
    if (rule.type === "full" || rule.type === "layer") return { depth, layers: scored };
    const difficulty =
      rule.type === "confidence" && rule.difficulty
        ? firstStageDifficulty(firstStageScores!, rule.difficulty.k)
        : undefined;
    return { depth, layers: scored, rule: nativeRule(rule, difficulty) };
  }

  /** What the engine runs where a call is audited: every exit of every document. */
  fullPlan(): NativePlan {
    const { exitLayers } = this.#options;
    return { depth: exitLayers.at(-1)!, layers: exitLayers };
  }

  /** The audit of a promise; undefined where none was asked for. */
  audit({ statement, allowed }: Promised): Audit | undefined {
    const { auditRate } = this.#options;
    // A promise that everything may be lost cannot fail.
    if (auditRate === undefined || allowed >= 1) return undefined;
    const known = this.#audits.get(statement);
    if (known) return known;
    const audit = new Audit({ alpha: allowed, rate: auditRate });
    this.#audits.set(statement, audit);
    return audit;
  }

  /** What the rule would have lost on the full pass that the collector holds. */
  loss(rule: Rule, { loss, k }: Promised, { logits, estimates, units, tokens }: Collector): number {
    const documents = Array.from(tokens, (_, i) => String(i));
    const list = { query: "", documents, tokens, scores: logits, estimates, units };
    return lossOf(loss, rule, list, this.#options.exitLayers, k);
  }

  /** Hashing the model's files takes a moment, so it happens when a certificate may matter, once. */
  #hashed(): Promise<Hashes> {
    this.#hashes ??= hashes(this.#options.directory).catch((error) => {
      this.#hashes = undefined;
      throw error;
    });
    return this.#hashes;
  }
}
