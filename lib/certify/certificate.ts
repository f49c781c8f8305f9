/**
 * A certificate: what was promised, under which conditions it holds, and why it does not where it does not.
 */
import { MatryoshkaError } from "../errors.js";
import type { ExitHead, TopKRule } from "../exit/rule.js";
import type { FrontierPoint } from "./frontier.js";

/** Everything that, if it changes, makes a certificate void. */
export interface Fingerprint {
  /** Hash of the weights and exit heads. */
  readonly modelHash: string;
  readonly tokenizerHash: string;
  /** Arithmetic that made the scores: "f32", "bf16", "int8". */
  readonly dtype: string;
  readonly maxLength: number;
}

/** One promise, as stored under `certificates` in matryoshka.json. */
export interface Certificate extends Fingerprint {
  /**
   * "exact-top-k": the first k results are exactly full depth's, same documents, same order, same scores. "recall-top-k":
   * of full depth's first k, nearly all come first, in its order, with its scores.
   */
  readonly kind: "exact-top-k" | "recall-top-k";
  readonly k: number;
  /** Exact: largest share of queries for which it may fail. Recall: largest share of the first k lost, on the mean of queries. */
  readonly alpha: number;
  /** Probability that calibration itself was misled; null where α holds on average over calibrations only. */
  readonly delta: number | null;
  /** Critical scale, float32. */
  readonly scale: number;
  /** Exits at which documents may stop, with their compensation and widths. */
  readonly widths: readonly ExitHead[];
  /** Calibration queries. */
  readonly n: number;
  /** Fewest and most documents of the calibration lists. Lists of at most k documents never stop anybody and always fit. */
  readonly candidates: { readonly min: number; readonly max: number };
  /** Group (tenant, domain, …) to its own scale; null where it had too few queries. */
  readonly groups?: Readonly<Record<string, { readonly n: number; readonly scale: number | null }>>;
  /** Where the queries and candidates came from, in the words of whoever calibrated. */
  readonly createdFrom: string;
  /** Mean compute fraction on the calibration queries: what it saves there, not a promise. */
  readonly computeFraction: number;
  /** What a budget costs and loses, by stake. */
  readonly frontier?: readonly FrontierPoint[];
}

/** A request, as far as a certificate cares. */
export interface Wanted extends Fingerprint {
  /** Defaults to `"exact-top-k"`, which serves whoever asks for recall too: whoever fails loses at most all. */
  readonly kind?: Certificate["kind"];
  readonly k: number;
  /** Certificates with a larger α do not do. Defaults to any. */
  readonly alpha?: number;
  readonly candidates: number;
  /** Defaults to none: the scale for the mixture of all calibration queries. */
  readonly group?: string;
}

export type Resolution =
  | { readonly certificate: Certificate; readonly rule: TopKRule }
  /** No certificate fits: full depth runs, and this says why, one sentence a certificate. */
  | { readonly void: readonly string[] };

/**
 * Chooses the certificate for a request: an exact one that holds for a larger k covers a smaller one too. Of those that fit,
 * the one with the nearest k, then recall, then the largest α that is allowed (the cheapest promise that suffices).
 */
export function resolveCertificate(certificates: readonly Certificate[], wanted: Wanted): Resolution {
  if (certificates.length === 0) {
    return { void: ["The model has no certificate: run `matryoshka calibrate` to make one."] };
  }
  const reasons: string[] = [];
  const fitting: { certificate: Certificate; scale: number }[] = [];
  for (const certificate of certificates) {
    const scale = wanted.group === undefined ? certificate.scale : certificate.groups?.[wanted.group]?.scale;
    const reason = mismatch(certificate, wanted);
    const recall = certificate.kind === "recall-top-k";
    if (reason === undefined && scale != null) fitting.push({ certificate, scale });
    else
      reasons.push(
        `Certificate for ${recall ? "recall at " : ""}k = ${certificate.k}, α = ${certificate.alpha}: ${reason ?? noGroup(certificate, wanted.group!)}.`,
      );
  }
  const exact = ({ kind }: Certificate) => Number(kind === "exact-top-k");
  fitting.sort(({ certificate: a }, { certificate: b }) => a.k - b.k || exact(a) - exact(b) || b.alpha - a.alpha);
  const best = fitting[0];
  if (!best) return { void: reasons };
  const { certificate, scale } = best;
  return { certificate, rule: { type: "top-k", k: certificate.k, scale, exits: certificate.widths } };
}

/** Why this certificate does not hold for this request, or undefined. */
export function mismatch(certificate: Certificate, wanted: Wanted): string | undefined {
  const recall = certificate.kind === "recall-top-k";
  if (recall && wanted.kind !== "recall-top-k") return "it promises most of the first k, the request asks for all";
  // What a mean over the first k says of fewer: nothing. The losses may all be among them.
  if (recall ? certificate.k !== wanted.k : certificate.k < wanted.k)
    return `it covers the first ${certificate.k} results, the request asks for ${wanted.k}`;
  if (wanted.alpha !== undefined && certificate.alpha > wanted.alpha) {
    const what = recall ? "the first k to be lost" : "queries to fail";
    return `it allows ${certificate.alpha} of ${what}, the request at most ${wanted.alpha}`;
  }
  const names = {
    modelHash: "model",
    tokenizerHash: "tokenizer",
    dtype: "dtype",
    maxLength: "maximum length",
  } as const;
  for (const key of Object.keys(names) as (keyof typeof names)[]) {
    if (certificate[key] !== wanted[key]) {
      return `it was made with ${names[key]} ${certificate[key]}, this run has ${wanted[key]}`;
    }
  }
  return wanted.candidates > certificate.k ? unlikeLists(certificate, wanted.candidates) : undefined;
}

/** Why a list of this length is unlike those of calibration, or undefined. */
export function unlikeLists(certificate: Certificate, candidates: number): string | undefined {
  const { min, max } = certificate.candidates;
  if (candidates >= min && candidates <= max) return undefined;
  return `it was made on lists of ${lengths(certificate)} candidates, this one has ${candidates}`;
}

function lengths({ candidates: { min, max } }: Certificate): string {
  return min === max ? String(max) : `${min} to ${max}`;
}

function noGroup({ groups }: Certificate, group: string): string {
  const own = groups?.[group];
  return own ? `group ${group} had only ${own.n} calibration queries` : `it knows no group ${group}`;
}

/** The promise in one sentence of plain English. */
export function statement(certificate: Certificate): string {
  const { kind, k, alpha } = certificate;
  const first = k === 1 ? "first result" : `first ${k} results`;
  const promise =
    kind === "exact-top-k"
      ? `the ${first} ${k === 1 ? "is" : "are"} exactly what full depth gives, except in at most ${percent(alpha)} of queries`
      : `at least ${percent(1 - alpha)} of full depth's ${first}, on the mean of queries, come first, in its order, with its scores`;
  return sentence(certificate, promise, `α = ${alpha}, `);
}

/** What a budget of loss promises, in one sentence. */
export function lossStatement(certificate: Certificate, loss: number): string {
  const drop = `the mean drop of nDCG@${certificate.k}, judged by full depth's own scores, is at most ${loss}`;
  return sentence(certificate, drop, "");
}

function sentence(certificate: Certificate, promise: string, target: string): string {
  const { delta, n, dtype, maxLength } = certificate;
  const sure = delta === null ? "on average over calibrations" : `with ${percent(1 - delta)} confidence`;
  return (
    `For queries like the ${n} it was calibrated on, ${promise}, ${sure} (${target}δ = ${delta ?? "none"}, ` +
    `n = ${n}, ${dtype}, sequences up to ${maxLength} tokens, lists of ${lengths(certificate)} candidates).`
  );
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(4))} %`;
}

/** Checks what was read from matryoshka.json. Throws `ERR_CONFIG_INVALID` naming the field. */
export function parseCertificates(value: unknown, where: string): Certificate[] {
  const fail = (field: string, expected: string, came: unknown): MatryoshkaError =>
    new MatryoshkaError(
      "ERR_CONFIG_INVALID",
      `${where}: expected ${expected} at ${field}, got ${String(JSON.stringify(came)).slice(0, 100)}`,
    );
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw fail("certificates", "a list", value);
  const number = (v: unknown, low: number, high: number): boolean => typeof v === "number" && v >= low && v <= high;
  return value.map((entry: unknown, i) => {
    const at = `certificates[${i}]`;
    if (typeof entry !== "object" || entry === null) throw fail(at, "an object", entry);
    const c = entry as Record<string, unknown>;
    const need = (field: string, ok: boolean, expected: string): void => {
      if (!ok) throw fail(`${at}.${field}`, expected, c[field]);
    };
    need("kind", c.kind === "exact-top-k" || c.kind === "recall-top-k", '"exact-top-k" or "recall-top-k"');
    need("k", Number.isInteger(c.k) && number(c.k, 1, 1024), "a whole number from 1 to 1024");
    need("alpha", number(c.alpha, 0, 1), "a number from 0 to 1");
    need("delta", c.delta === null || number(c.delta, 0, 1), "a number from 0 to 1 or null");
    need("scale", number(c.scale, 0, 3.4e38), "a finite number that is not negative");
    need("n", Number.isInteger(c.n) && number(c.n, 1, 1e12), "a positive whole number");
    need("maxLength", Number.isInteger(c.maxLength) && number(c.maxLength, 1, 1e9), "a positive whole number");
    for (const field of ["modelHash", "tokenizerHash", "dtype", "createdFrom"])
      need(field, typeof c[field] === "string", "a string");
    const range = c.candidates as { min?: unknown; max?: unknown } | null | undefined;
    need("candidates", number(range?.min, 0, 1e9) && number(range?.max, range?.min as number, 1e9), "{ min, max }");
    need(
      "widths",
      Array.isArray(c.widths) && c.widths.every(isExitHead),
      "a list of { layer, slope, offset, width, trend, spread }",
    );
    const groups = c.groups as Record<string, { scale?: unknown } | null> | undefined;
    need(
      "groups",
      groups === undefined ||
        (typeof groups === "object" &&
          groups !== null &&
          Object.values(groups).every((g) => g?.scale === null || number(g?.scale, 0, 3.4e38))),
      "{ name: { n, scale } }",
    );
    const points = c.frontier as Partial<Record<keyof FrontierPoint, unknown>>[] | undefined;
    const fine =
      points === undefined ||
      (Array.isArray(points) &&
        points.every(
          (p) =>
            number(p?.stake, 0, 1) &&
            number(p?.compute, 0, 1.001) &&
            number(p?.loss, 0, 1) &&
            (p?.bound === undefined || number(p.bound, 0, 1)),
        ));
    need("frontier", fine, "a list of { stake, compute, loss, bound }");
    return entry as Certificate;
  });
}

function isExitHead(value: unknown): boolean {
  const { layer, slope, offset, width, trend, spread = 0 } = (value ?? {}) as Partial<Record<keyof ExitHead, unknown>>;
  return (
    Number.isInteger(layer) &&
    [slope, offset, width, trend, spread].every(Number.isFinite) &&
    (layer as number) >= 1 &&
    (width as number) > 0 &&
    (trend as number) >= 0 &&
    (spread as number) >= 0
  );
}
