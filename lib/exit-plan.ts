/**
 * From what a caller asked for to what the engine runs: the exit rule, and the certificate behind it or why there is none.
 */
import {
  type Certificate,
  lossStatement,
  mismatch,
  resolveCertificate,
  statement,
  unlikeLists,
  type Wanted,
} from "./certify/certificate.js";
import { lose, spend } from "./certify/frontier.js";
import type { Loss } from "./certify/losses.js";
import { MatryoshkaError } from "./errors.js";
import type { ConfidenceRule, Rule } from "./exit/rule.js";
import type { CertificateStatus, Exit } from "./types.js";

/** An exit rule with its numbers filled in. */
export interface ExitPlan {
  readonly rule: Rule;
  /** For `top-k` and `budget`: what is promised, or why nothing is. */
  readonly certificate?: CertificateStatus;
  /** The promise that holds, where one does. */
  readonly holds?: Promised;
}

/** "The mean of what queries lose is at most `allowed`." */
export interface Promised {
  readonly statement: string;
  readonly loss: Loss;
  readonly k: number;
  readonly allowed: number;
}

/**
 * Fills in an exit. Without a certificate that fits, `top-k` runs full depth and the status says why; `budget` needs
 * a calibration, because it spends, or loses, by what was measured there. Throws `ERR_INVALID_ARGUMENT` where a budget
 * cannot be met.
 */
export function planExit(exit: Exit, certificates: readonly Certificate[], wanted: Omit<Wanted, "k">): ExitPlan {
  if (exit.type === "full" || exit.type === "layer") return { rule: exit };
  if (exit.type === "confidence") return { rule: confidenceRule(exit, certificates, wanted) };
  const k = exit.k ?? 10;
  if (exit.type === "budget") {
    if (exit.loss !== undefined) return lossBudget(exit.loss, certificates, { ...wanted, k });
    return budget(exit.compute, certificates, { ...wanted, k });
  }
  const { alpha, group, promise = "exact" } = exit;
  const request = {
    ...wanted,
    kind: `${promise}-top-k` as const,
    k,
    ...(alpha !== undefined && { alpha }),
    ...(group !== undefined && { group }),
  };
  const resolution = resolveCertificate(certificates, request);
  if ("void" in resolution) return fullDepth(resolution.void);
  const { certificate, rule } = resolution;
  const said = statement(certificate);
  const holds = { statement: said, loss: certificate.kind, k: certificate.k, allowed: certificate.alpha };
  return { rule, holds, certificate: { holds: true, statement: said } };
}

function fullDepth(reasons: readonly string[]): ExitPlan {
  return { rule: { type: "full" }, certificate: { holds: false, reasons } };
}

/**
 * The budget rule at the stake whose mean compute was within the budget when it was calibrated. Nothing is promised, so a
 * calibration in another arithmetic, or at another length, will do where there is none like this, and so will lists of any size.
 */
function budget(compute: number, certificates: readonly Certificate[], wanted: Wanted): ExitPlan {
  const measured = certificates.filter(({ frontier }) => frontier !== undefined);
  const { dtype, maxLength } = wanted;
  const adopted = measured.map((each) => ({ ...each, dtype, maxLength }));
  const request = { ...wanted, kind: "recall-top-k", candidates: 0 } as const;
  const own = resolveCertificate(measured, request);
  const resolution = "void" in own ? resolveCertificate(adopted, request) : own;
  if ("void" in resolution) return fullDepth(resolution.void);
  const { frontier, k, widths } = resolution.certificate;
  const { stake, loss } = spend(frontier!, compute);
  const source = measured.find((each) => each.frontier === frontier)!;
  const reasons = [
    `A budget of ${compute} of full depth promises nothing about the top ${k}; on its calibration queries (${source.dtype}, up to ${source.maxLength} tokens) it cost at most ${loss.toFixed(4)} of nDCG@${k}, judged by full depth's own scores.`,
  ];
  return { rule: { type: "budget", k, stake, exits: widths }, certificate: { holds: false, reasons } };
}

/** The budget rule at the largest stake whose mean loss is bounded by `loss`: a promise, so it needs a calibration of this very run. */
function lossBudget(loss: number, certificates: readonly Certificate[], wanted: Wanted): ExitPlan {
  const { k, candidates } = wanted;
  const bounded = certificates.filter(
    (each) => each.k === k && each.frontier?.some(({ bound }) => bound !== undefined),
  );
  if (bounded.length === 0)
    return fullDepth([
      `No calibration has bounded what stopping early loses of nDCG@${k}: run \`matryoshka calibrate --k ${k}\`, with a δ.`,
    ]);
  const resolution = resolveCertificate(bounded, { ...wanted, kind: "recall-top-k" });
  if ("void" in resolution) return fullDepth(resolution.void);
  const { certificate } = resolution;
  // Under a budget short lists stop too, so none is exempt.
  const unlike = unlikeLists(certificate, candidates);
  if (unlike !== undefined) return fullDepth([`Calibration for k = ${k}: ${unlike}.`]);
  const point = lose(certificate.frontier!, loss);
  if (!point)
    return fullDepth([
      `${certificate.n} calibration queries bound the loss of full depth alone by ${loss}: allow more, or calibrate on more.`,
    ]);
  const said = lossStatement(certificate, loss);
  return {
    rule: { type: "budget", k, stake: point.stake, exits: certificate.widths },
    holds: { statement: said, loss: "ndcg", k, allowed: loss },
    certificate: { holds: true, statement: said },
  };
}

/** Thresholds at the layers asked for; scores are made comparable where a certificate of this very model knows all of them. */
function confidenceRule(
  exit: Extract<Exit, { type: "confidence" }>,
  certificates: readonly Certificate[],
  wanted: Omit<Wanted, "k">,
): ConfidenceRule {
  const thresholds = Object.entries(exit.thresholds).map(([layer, threshold]) => ({ layer: Number(layer), threshold }));
  const own = certificates
    .filter((each) => mismatch(each, { ...wanted, kind: each.kind, k: each.k, candidates: 0 }) === undefined)
    .map(({ widths }) => new Map(widths.map((head) => [head.layer, head])));
  const heads = own.find((each) => thresholds.every(({ layer }) => each.has(layer)));
  return {
    type: "confidence",
    over: exit.over ?? "pair",
    exits: thresholds
      .sort((a, b) => a.layer - b.layer)
      .map(({ layer, threshold }) => ({
        layer,
        threshold,
        slope: heads?.get(layer)?.slope ?? 1,
        offset: heads?.get(layer)?.offset ?? 0,
      })),
    ...(exit.difficulty && { difficulty: { easy: exit.difficulty.below, k: exit.difficulty.k ?? 10 } }),
  };
}

/** Throws where a rule needs what a call did not bring. */
export function checkRuleInputs(rule: Rule, firstStage: readonly number[] | undefined, documents: number): void {
  if (rule.type !== "confidence" || !rule.difficulty) return;
  if (firstStage?.length !== documents)
    throw new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Expected firstStageScores with a score for each of the ${documents} documents, because exit.difficulty reads them, but received ${firstStage?.length ?? "none"}.`,
    );
}
