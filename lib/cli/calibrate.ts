/**
 * `matryoshka calibrate`: queries and candidates in, a certificate in the model's matryoshka.json out. No labels.
 */
import { calibrator, checkTarget } from "../certify/calibrate.js";
import { type Certificate, statement } from "../certify/certificate.js";
import { addCertificates, assertCanHold } from "../certify/write.js";
import { MatryoshkaError } from "../errors.js";
import { fingerprint } from "../fingerprint.js";
import { nextTurn } from "../next-turn.js";
import { checkScore } from "../options.js";
import { Reranker } from "../reranker.js";
import { CANDIDATES, CANDIDATES_HELP, candidateLists, candidateSource } from "./candidates.js";
import {
  COMMON_HELP,
  type Command,
  choice,
  count,
  MODEL,
  openOptions,
  text,
  UsageError,
  type Values,
} from "./command.js";
import type { List } from "./lists.js";
import { STORE_HELP, trajectories } from "./trajectories.js";

export const calibration: Command = {
  summary: "make a certificate that the first k results stay full depth's",
  help: `Usage: matryoshka calibrate (--data DIR --run FILE.trec | --pairs FILE.jsonl) [options]

Scores the candidates of many queries at every layer, fits an exit rule on some queries, and finds on the others how
careful the rule must be so that the first k results are exactly full depth's except in a share α of queries (or so that
of full depth's first k a share α is lost, on the mean of queries), with confidence 1 − δ. The certificate goes into the
model's matryoshka.json. No relevance labels are read. Choose k, α and δ before looking at any result; every certificate
holds on its own (for several to hold all at once, divide δ by their number).

${CANDIDATES_HELP}
  --promise WHAT     exact: all of the first k, in all queries but a share α; recall: all but a share α of the first k,
                     on the mean of queries, which costs less (default: exact)
  --k LIST           results that it is about, such as 1,3,5,10 (default: 10)
  --alpha LIST       that share, such as 0.01,0.05 (default: 0.05)
  --delta D          probability that calibration was misled, or none for a promise that holds on average over
                     calibrations and needs fewer queries (default: 0.05)
  --widths KIND      layer, document or list: what a margin may differ between (default: list, which includes the others)
  --group-by FIELD   field of the queries (or lines) whose values get a guarantee of their own
  --seed N           of the split into fitting and calibration queries (default: 1)
  --max-length N     tokens a sequence may have; the certificate is void for others (default: 512 at most)
  --dry-run          prints what would be certified and writes nothing
${STORE_HELP}
${COMMON_HELP}

Example: matryoshka calibrate --model ./my-model --pairs traffic.jsonl --dtype f32 --k 10 --alpha 0.05 --delta 0.05`,
  options: {
    ...MODEL,
    ...CANDIDATES,
    promise: { type: "string" },
    k: { type: "string" },
    alpha: { type: "string" },
    delta: { type: "string" },
    widths: { type: "string" },
    "group-by": { type: "string" },
    seed: { type: "string" },
    "max-length": { type: "string" },
    "dry-run": { type: "boolean" },
    store: { type: "string" },
  },
  positionals: 0,

  async run({ values, output, signal }) {
    const settings = read(values);
    for (const k of settings.ks) for (const alpha of settings.alphas) checkTarget(k, alpha, settings.delta);
    const lists = await candidateLists(settings, { groupBy: settings.groupBy, signal });
    checkDepths(lists, settings.ks);
    await using reranker = await Reranker.open(text(values, "model"), openOptions(values));
    const { directory } = reranker.info;
    await assertCanHold(directory);
    const { maxLength } = checkScore(settings.score, reranker.info);
    const print = await fingerprint(directory, { dtype: reranker.info.dtype!, maxLength });
    const set = await trajectories(reranker, lists, {
      ...{ fingerprint: print, directory: settings.store, output, signal },
      name: `calibrate-${settings.source}`,
    });
    const groups = new Map(lists.map(({ query, group }) => [query, group]));
    const calibrate = calibrator(set, {
      ...{ fingerprint: print, cost: reranker.info, widths: settings.widths, seed: settings.seed },
      createdFrom: `${settings.source}, seed ${settings.seed}`,
      ...(settings.groupBy !== undefined && { groupOf: ({ query }) => groups.get(query)! }),
    });
    const certificates: Certificate[] = [];
    const refused: { k: number; alpha: number; reason: string }[] = [];
    for (const k of settings.ks) {
      for (const alpha of settings.alphas) {
        output.progress(`fitting the rule for k = ${k}, α = ${alpha} …`);
        await nextTurn();
        signal.throwIfAborted();
        const made = calibrate({ kind: `${settings.promise}-top-k`, k, alpha, delta: settings.delta });
        if (made.feasible) certificates.push(made.certificate);
        else refused.push({ k, alpha, reason: made.reason });
      }
    }
    const written = !settings.dryRun && certificates.length > 0;
    if (written) await addCertificates(directory, certificates);
    if (output.json) await output.object({ model: directory, written, certificates, refused });
    else for (const certificate of certificates) await output.line(words(certificate));
    if (written) output.note(`Written to matryoshka.json of ${directory}`);
    if (refused.length > 0)
      throw new MatryoshkaError(
        "ERR_NOT_CERTIFIABLE",
        refused.map(({ k, alpha, reason }) => `k = ${k}, α = ${alpha}: ${reason}`).join(" "),
      );
  },
};

function read(values: Values) {
  const delta = text(values, "delta") ?? "0.05";
  const deltas = delta === "none" ? [null] : numbers(delta, "delta");
  if (deltas.length > 1) throw new UsageError(`--delta needs one number or none, got ${delta}`);
  const maxLength = count(values, "max-length");
  return {
    ...candidateSource(values),
    promise: choice(values, "promise", ["exact", "recall"]) ?? "exact",
    widths: choice(values, "widths", ["layer", "document", "list"]) ?? "list",
    ks: numbers(text(values, "k") ?? "10", "k"),
    alphas: numbers(text(values, "alpha") ?? "0.05", "alpha"),
    delta: deltas[0] as number | null,
    groupBy: text(values, "group-by"),
    seed: text(values, "seed") ?? 1,
    score: maxLength === undefined ? {} : { maxLength },
    dryRun: values["dry-run"] === true,
    store: text(values, "store"),
  };
}

/** Numbers separated by commas; whether they are in range is for the calibration to say. */
function numbers(list: string, name: string): number[] {
  if (!/^\d*\.?\d+(,\d*\.?\d+)*$/.test(list))
    throw new UsageError(`--${name} needs numbers separated by commas, got ${JSON.stringify(list)}`);
  return list.split(",").map(Number);
}

/** A promise about the first k of lists that are no longer is empty: nobody ever stops. */
function checkDepths(lists: readonly List[], ks: readonly number[]): void {
  const longest = lists.reduce((most, { documents }) => Math.max(most, documents.length), 0);
  const k = Math.max(...ks);
  if (longest > k) return;
  throw new MatryoshkaError(
    "ERR_INVALID_ARGUMENT",
    `Expected lists of more than k = ${k} candidates, but the longest has ${longest}: with no more than k, every ` +
      "document runs to full depth and there is nothing to certify. Use a smaller k or more candidates.",
  );
}

function words(certificate: Certificate): string {
  const { computeFraction, groups } = certificate;
  const own = Object.entries(groups ?? {}).map(([group, { n, scale }]) =>
    scale === null ? `  ${group}: too few queries (${n}), full depth` : `  ${group}: holds on its own (${n} queries)`,
  );
  return [
    `${statement(certificate)} There it took ${(100 * computeFraction).toFixed(1)} % of full depth's compute.`,
    ...own,
  ].join("\n");
}
