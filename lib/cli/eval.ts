/**
 * `matryoshka eval`: ranking metrics at every depth and for any exit rule, from one pass over a BEIR data set.
 */
import { writeFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { cannotWrite, MatryoshkaError } from "../errors.js";
import { readCorpus, readQueries, readSplit } from "../eval/beir.js";
import { parseMeasure, STANDARD_MEASURES, trecOrder, trecRankings } from "../eval/metrics.js";
import type { Qrels } from "../eval/qrels.js";
import { spread } from "../eval/spread.js";
import { formatRun, type Run, readRun } from "../eval/trec-run.js";
import { fingerprint } from "../fingerprint.js";
import { readCertificates } from "../model-info.js";
import { checkRerank, checkScore } from "../options.js";
import { Reranker } from "../reranker.js";
import type { Exit } from "../types.js";
import {
  COMMON_HELP,
  type Command,
  choice,
  count,
  layers,
  MODEL,
  openOptions,
  required,
  text,
  texts,
  UsageError,
  type Values,
} from "./command.js";
import { EXIT_HELP, parseExit } from "./exit.js";
import { beirLists } from "./lists.js";
import type { Output } from "./output.js";
import { depthReport, firstStage, type Judge, type Report, ruleReport } from "./report.js";
import { FORMATS, type Format, render } from "./report-format.js";
import { STORE_HELP, trajectories } from "./trajectories.js";
import { wallClock } from "./wall-clock.js";

export const evaluation: Command = {
  summary: "metrics at every depth and for any exit rule, on a BEIR data set",
  help: `Usage: matryoshka eval --data DIR --run FILE.trec [options]

Reranks the candidates of a TREC run for the judged queries of a BEIR directory (corpus.jsonl, queries.jsonl,
qrels/SPLIT.tsv). One pass at full depth gives the metrics of every depth, by trec_eval's rules; exit rules are
replayed from it. Some queries are run again to take times. Each --run is evaluated on its own.

  --data DIR         the data set
  --split NAME       its judgements (default: test)
  --run FILE.trec    candidates; may be repeated
  --candidates N     candidates of a query, the best of the run (default: 100)
  --depths LIST      all, or exit layers such as 4,8,12 (default: all)
  --exit RULE        a rule to evaluate; may be repeated:
                     ${EXIT_HELP}
  --max-length N     tokens a sequence may have (default: 512 at most)
  --measures LIST    default: ${STANDARD_MEASURES.slice(0, 6).join(",")},
                     ${STANDARD_MEASURES.slice(6).join(",")}
  --timed-queries N  queries to take times on, 0 for none (default: 10)
  --compare FILE     another run: paired significance of every ranking's nDCG@10 (or first measure) against it
  --output FILE.trec writes the ranking of the first --exit, or of full depth without one
  --format NAME      table, csv or markdown (default: table)
${STORE_HELP}
${COMMON_HELP}

Example: matryoshka eval --data beir/scifact --run bm25.trec --depths 4,8,12 --exit top-k:10 --exit budget:0.5`,
  options: {
    ...MODEL,
    data: { type: "string" },
    split: { type: "string" },
    run: { type: "string", multiple: true },
    candidates: { type: "string" },
    depths: { type: "string" },
    exit: { type: "string", multiple: true },
    "max-length": { type: "string" },
    measures: { type: "string" },
    "timed-queries": { type: "string" },
    compare: { type: "string" },
    output: { type: "string" },
    format: { type: "string" },
    store: { type: "string" },
  },
  positionals: 0,

  async run({ values, output, signal }) {
    const settings = read(values);
    const qrels = await readSplit(settings.data, settings.split);
    await using reranker = await Reranker.open(text(values, "model"), openOptions(values));
    // The reranker's own checks, before hours of work: exits, depths, the length.
    for (const { exit } of settings.exits) checkRerank({ exit }, reranker.info);
    const { maxLength, layers: depths } = checkScore(settings.score, reranker.info);
    const certificates = await readCertificates(reranker.info.directory);
    const dtype = reranker.info.dtype!;
    const print = await fingerprint(reranker.info.directory, { dtype, maxLength });
    const compare = settings.compare === undefined ? undefined : await readRun(settings.compare);
    const judge: Judge = {
      qrels,
      measures: settings.measures,
      compare: compare && { name: settings.compare!, rankings: trecRankings(compare) },
    };
    for (const file of settings.runs) {
      const run = await readJudged(file, qrels);
      const lists = await beirLists(settings.data, run, { depth: settings.candidates });
      const set = await trajectories(reranker, lists, {
        ...{ fingerprint: print, directory: settings.store, output, signal },
        name: `${basename(settings.data)}-${settings.split}-${basename(file)}`,
      });
      const timed = spread(lists, settings.timed);
      const exits: Exit[] = [
        ...depths.map((layer): Exit => ({ type: "layer", layer })),
        ...settings.exits.map((e) => e.exit),
      ];
      const times =
        timed.length > 0
          ? await wallClock(reranker, timed, exits, {
              ...{ maxLength, signal },
              progress: (done, total) => output.progress(`${done} of ${total} queries timed at every depth and rule`),
            })
          : [];
      const atDepths = depths.map((layer, i) =>
        depthReport(layer, set, judge, reranker.info, times[i]?.pairsPerSecond ?? null),
      );
      const ofRules = settings.exits.map(({ words, exit }, i) =>
        ruleReport(
          { words, exit, certificates, fingerprint: print, wall: times[depths.length + i] },
          ...([set, judge, reranker.info] as const),
        ),
      );
      if (settings.output !== undefined) {
        const last = reranker.info.layers;
        const { run } = ofRules[0] ?? depthReport(last, set, judge, reranker.info, null);
        await write(settings.output, run);
      }
      const report: Report = {
        ...{ dataset: basename(resolve(settings.data)), split: settings.split, run: file },
        ...{ model: reranker.info.directory, dtype, maxLength, candidates: settings.candidates },
        queries: lists.length,
        pairs: lists.reduce((sum, { documents }) => sum + documents.length, 0),
        timedQueries: timed.length,
        left: await leftOut(settings.data, qrels, run),
        firstStage: firstStage(lists, judge),
        depths: atDepths.map(({ report }) => report),
        rules: ofRules.map(({ report }) => report),
      };
      await show(report, settings.format, output);
    }
  },
};

function read(values: Values) {
  const runs = texts(values, "run");
  if (runs.length === 0) throw new UsageError("--run is needed");
  const output = text(values, "output");
  if (output !== undefined && runs.length > 1) throw new UsageError("--output takes one --run");
  const measures = (text(values, "measures")?.split(",") ?? STANDARD_MEASURES).map((each) => parseMeasure(each).name);
  const maxLength = count(values, "max-length");
  return {
    data: required(values, "data"),
    split: text(values, "split") ?? "test",
    ...{ runs, output, measures },
    exits: texts(values, "exit").map((words) => ({ words, exit: parseExit(words) })),
    score: { layers: layers(values, "depths") ?? ("all" as const), ...(maxLength !== undefined && { maxLength }) },
    candidates: count(values, "candidates") ?? 100,
    timed: text(values, "timed-queries") === "0" ? 0 : (count(values, "timed-queries") ?? 10),
    compare: text(values, "compare"),
    store: text(values, "store"),
    format: choice(values, "format", FORMATS) ?? "table",
  };
}

/** The run's judged queries: others would cost time and count for nothing. */
async function readJudged(file: string, qrels: Qrels): Promise<Run> {
  const run = await readRun(file);
  const judged = new Map([...run].filter(([query]) => qrels.has(query)));
  if (judged.size > 0) return judged;
  throw new MatryoshkaError(
    "ERR_INVALID_ARGUMENT",
    `${file}: expected at least one query that is judged, got ${run.size} queries of which none is among the ` +
      `${qrels.size} judged ones`,
  );
}

/** Judgements that nobody can meet, or whose query was not run. Unknown documents still count as relevant, as ever. */
async function leftOut(directory: string, qrels: Qrels, run: Run): Promise<Report["left"]> {
  const queries = await readQueries(join(directory, "queries.jsonl"));
  const judged = new Set([...qrels.values()].flatMap((judgements) => [...judgements.keys()]));
  const corpus = await readCorpus(join(directory, "corpus.jsonl"), judged);
  return {
    notInRun: [...qrels.keys()].filter((query) => !run.has(query)).length,
    unknownQueries: [...qrels.keys()].filter((query) => !queries.has(query)).length,
    unknownDocuments: judged.size - corpus.size,
  };
}

async function write(file: string, run: Run): Promise<void> {
  const ordered = new Map(
    [...run].map(([query, entries]) => {
      const scores = new Map(entries.map(({ id, score }) => [id, score]));
      return [query, trecOrder(entries).map((id) => ({ id, score: scores.get(id)! }))];
    }),
  );
  try {
    await writeFile(file, formatRun(ordered));
  } catch (cause) {
    if (cause instanceof MatryoshkaError) throw cause;
    throw cannotWrite(file, cause);
  }
}

async function show(report: Report, format: Format, output: Output): Promise<void> {
  if (output.json) return output.object(report);
  await output.line(render(report, format));
  const { notInRun, unknownQueries, unknownDocuments } = report.left;
  if (notInRun > 0) output.note(`${notInRun} judged queries are not in the run and are left out of the means`);
  if (unknownQueries > 0) output.note(`${unknownQueries} judged queries are not in queries.jsonl`);
  if (unknownDocuments > 0)
    output.note(`${unknownDocuments} judged documents are not in corpus.jsonl; relevant ones count as not found`);
  for (const { rule, certificate } of report.rules) {
    if (!certificate) continue;
    output.note(
      certificate.holds
        ? `${rule} (${certificate.queries} of ${report.queries} queries): ${certificate.statement}`
        : `${rule}: no certificate holds. ${certificate.reasons.join(" ")}`,
    );
  }
}
