/**
 * A run as one HTML page: loss by part and exit, nDCG@10 by exit, and quality against cost.
 */

import { type CostShape, stopFlops } from "../exit/cost.js";
import { type Chart, escaped, type Series, svg } from "../report/chart.js";
import { htmlPage, htmlTable } from "../report/page.js";
import type { LogRecord, StepRecord, ValidationRecord } from "./log.js";
import type { TrainConfig } from "./types.js";

/** Points of a curve of losses: each is the mean of the steps around it. */
const POINTS = 60;
/** A sequence of this length stands for all where cost is drawn: a query and a passage. */
const TOKENS = 160;

export interface ReportFacts {
  readonly title: string;
  readonly config: TrainConfig;
  readonly exitLayers: readonly number[];
  readonly shape: CostShape;
  /** What computes, e.g. "train cpu bf16 avx512 2 threads". */
  readonly backend: string;
}

export function trainingReport(records: readonly LogRecord[], facts: ReportFacts): string {
  const steps = records.filter((record) => record.kind === "step");
  const validations = records.filter((record) => record.kind === "validation");
  const { title, config, backend } = facts;
  const hours = records.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 3.6e6;
  const pairs = steps.reduce((sum, step) => sum + step.pairs, 0);
  const seconds = steps.reduce((sum, step) => sum + step.milliseconds, 0) / 1e3;
  const skipped = steps.filter(({ applied }) => !applied).length;
  const about = [
    `${steps.length} of ${config.steps} steps, ${pairs} pairs, ${hours.toFixed(2)} hours`,
    ...(seconds > 0 ? [`${(pairs / seconds).toFixed(0)} pairs/s in steps`] : []),
    ...(skipped > 0 ? [`${skipped} steps without a finite gradient, not applied`] : []),
    backend,
  ];
  return htmlPage(`${title}: training`, [
    `<h1>Training of ${escaped(title)}</h1><p>${escaped(about.join("; "))}.</p>`,
    ...(validations.length > 0 ? quality(validations, facts) : []),
    ...lossCharts(steps, facts).map(svg),
    `<h2>Configuration</h2><pre>${escaped(JSON.stringify(config, undefined, 2))}</pre>`,
  ]);
}

/** nDCG@10 against steps (mean of the sets), the last one against cost, and all of it as a table. */
function quality(validations: readonly ValidationRecord[], { exitLayers, shape }: ReportFacts): string[] {
  const mean = ({ sets }: ValidationRecord, exit: number) =>
    sets.reduce((sum, { ndcg }) => sum + ndcg[exit]!, 0) / sets.length;
  const last = validations.at(-1)!;
  const full = stopFlops(shape, TOKENS, shape.layers);
  const cost = exitLayers.map((layer) => stopFlops(shape, TOKENS, layer) / full);
  const againstSteps = exitLayers.map((layer, exit) => ({
    name: `layer ${layer}`,
    points: validations.map((each) => [each.step, mean(each, exit)] as const),
  }));
  const againstCost: Series[] = [
    { name: "mean", points: cost.map((share, exit) => [share, mean(last, exit)] as const) },
    ...(last.sets.length > 1
      ? last.sets.map(({ name, ndcg }) => ({ name, points: cost.map((share, exit) => [share, ndcg[exit]!] as const) }))
      : []),
  ];
  const rows = [
    ...last.sets.map(({ name, queries, ndcg }) => [name, String(queries), ...ndcg.map((x) => x.toFixed(4))]),
    ["mean", "", ...exitLayers.map((_, exit) => mean(last, exit).toFixed(4))],
  ];
  return [
    svg({ title: "nDCG@10 of every exit", x: "steps", y: "nDCG@10, mean of the sets", series: againstSteps }),
    svg({
      ...{ title: `Quality against cost after ${last.step} steps`, y: "nDCG@10", series: againstCost },
      x: `share of full depth's FLOPs (sequences of ${TOKENS} tokens)`,
    }),
    `<h2>nDCG@10 after ${last.step} steps</h2>`,
    htmlTable(["set", "queries", ...exitLayers.map((layer) => `layer ${layer}`)], rows),
  ];
}

/** The whole loss, then each of its parts that ever was more than 0, by exit. */
function lossCharts(steps: readonly StepRecord[], { exitLayers, config }: ReportFacts): Chart[] {
  if (steps.length === 0) return [];
  const parts: readonly { name: string; of: (exit: StepRecord["perExit"][number]) => number }[] = [
    { name: "list-wise cross-entropy", of: (exit) => exit.rank },
    { name: "binary cross-entropy", of: (exit) => exit.binary },
    ...config.loss.teachers.map((_, t) => ({
      name: `KL from teacher ${t + 1}`,
      of: (exit: StepRecord["perExit"][number]) => exit.teachers[t] ?? 0,
    })),
    { name: "KL from the deeper exit", of: (exit) => exit.distill },
  ];
  const used = parts.filter(({ of }) => steps.some(({ perExit }) => perExit.some((exit) => of(exit) > 0)));
  const chart = (title: string, y: string, series: readonly Series[]): Chart => ({ title, x: "steps", y, series });
  return [
    chart("Loss", "loss", [{ name: "weighted sum of all parts", points: smoothed(steps, ({ loss }) => loss) }]),
    ...used.map(({ name, of }) =>
      chart(
        `Loss: ${name}`,
        "mean over lists, unweighted",
        exitLayers.map((layer, e) => ({
          name: `layer ${layer}`,
          points: smoothed(steps, ({ perExit }) => of(perExit[e]!)),
        })),
      ),
    ),
  ];
}

/** Means of equal runs of steps, at their last step. Values that are not finite, null in the log, are left out. */
function smoothed(steps: readonly StepRecord[], value: (step: StepRecord) => number | null): [number, number][] {
  const width = Math.ceil(steps.length / POINTS);
  const points: [number, number][] = [];
  for (let i = 0; i < steps.length; i += width) {
    const some = steps.slice(i, i + width);
    const finite = some.map(value).filter((x): x is number => x !== null && Number.isFinite(x));
    if (finite.length > 0) points.push([some.at(-1)!.step, finite.reduce((a, b) => a + b, 0) / finite.length]);
  }
  return points;
}
