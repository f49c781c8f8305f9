/**
 * From what a caller asked for to what the engine runs: the exit rule, and the certificate behind it or why there is none.
 */
import { type Certificate, mismatch, resolveCertificate, statement, type Wanted } from "./certify/certificate.js";
import { spend } from "./certify/frontier.js";
import { MatryoshkaError } from "./errors.js";
import type { ConfidenceRule, Rule } from "./exit/rule.js";
import type { CertificateStatus, Exit } from "./types.js";

/** An exit rule with its numbers filled in. */
export interface ExitPlan {
  readonly rule: Rule;
  /** For `top-k` and `budget`: what is promised, or why nothing is. */
  readonly certificate?: CertificateStatus;
  /** The certificate that holds, where one does. */
  readonly holds?: Certificate;
}

/**
 * Fills in an exit. Without a certificate that fits, `top-k` runs full depth and the status says why; `budget` needs
 * a calibration, because it spends by what was measured there. Throws `ERR_INVALID_ARGUMENT` where a budget
 * cannot be met.
 */
export function planExit(exit: Exit, certificates: readonly Certificate[], wanted: Omit<Wanted, "k">): ExitPlan {
  if (exit.type === "full" || exit.type === "layer") return { rule: exit };
  if (exit.type === "confidence") return { rule: confidenceRule(exit, certificates, wanted) };
  const k = exit.k ?? 10;
  if (exit.type === "budget") return budget(exit.compute, certificates, { ...wanted, k });
  const { alpha, group, promise = "exact" } = exit;
  const request = {
    ...wanted,
    kind: `${promise}-top-k` as const,
    k,
    ...(alpha !== undefined && { alpha }),
    ...(group !== undefined && { group }),
  };
  const resolution = resolveCertificate(certificates, request);
  if ("void" in resolution) return { rule: { type: "full" }, certificate: { holds: false, reasons: resolution.void } };
  const { certificate, rule } = resolution;
  return { rule, holds: certificate, certificate: { holds: true, statement: statement(certificate) } };
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
  if ("void" in resolution) return { rule: { type: "full" }, certificate: { holds: false, reasons: resolution.void } };
  const { frontier, k, widths } = resolution.certificate;
  const { stake, loss } = spend(frontier!, compute);
  const source = measured.find((each) => each.frontier === frontier)!;
  const reasons = [
    `A budget of ${compute} of full depth promises nothing about the top ${k}; on its calibration queries (${source.dtype}, up to ${source.maxLength} tokens) it cost at most ${loss.toFixed(4)} of nDCG@${k}, judged by full depth's own scores.`,
  ];
  return { rule: { type: "budget", k, stake, exits: widths }, certificate: { holds: false, reasons } };
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
