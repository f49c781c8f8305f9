/**
 * The figures of bench:depth as a table for the terminal, as pictures, and as one self-contained HTML page.
 */
import { table as columns } from "../../dist/cli/output.js";
import { escaped, svg } from "../../dist/report/chart.js";
import { htmlPage, htmlTable } from "../../dist/report/page.js";
import type { Replayed } from "./replayed.js";

/** A rule at one setting. What `Replayed` has is of all queries, the rest of the timed ones. */
export interface Point extends Replayed {
  readonly label: string;
  /** `compute` of the timed queries: what `wall` compares with. */
  readonly timedCompute: number;
  /** Share of full depth's time. */
  readonly wall: number;
  readonly millisecondsPerPair: number;
  /** Σ_i P(exit at i) · Σ_{l≤i} cost_l, from the times of the static depths. */
  readonly expectedMilliseconds: number;
  readonly pairsPerSecond: number;
}

export interface Curve {
  readonly name: string;
  readonly points: readonly Point[];
}

/** Settings of a rule that cannot run here. */
export interface Absent {
  readonly rule: string;
  readonly settings: readonly string[];
  readonly reason: string;
}

interface Page {
  readonly machine: string;
  readonly about: string;
  readonly overhead: string;
  readonly leftOut: readonly Absent[];
  readonly pictures: readonly string[];
  readonly curves: readonly Curve[];
}

const HEADING = [
  ...["rule", "setting", "nDCG@10", "exact top k", "GFLOP/pair", "of full", "C, of full"],
  ...["timed FLOPs", "time", "ms/pair", "C, ms/pair", "pairs/s"],
];

const NOTES =
  "C is the expected cost Σ P(exit at i) · Σ cost up to i: in FLOPs for documents of mean length, in milliseconds from the " +
  "times of the static depths. “timed FLOPs” and all times are of the timed queries, as shares of full depth's.";

function rows(curves: readonly Curve[]): string[][] {
  return curves.flatMap(({ name, points }) =>
    points.map((p) => [
      ...[name, p.label, p.ndcg.toFixed(4), `${(100 * p.exactTopK).toFixed(0)} %`],
      ...[p.gflopsPerPair.toFixed(2), p.compute.toFixed(3), p.expectedCost.toFixed(3), p.timedCompute.toFixed(3)],
      ...[p.wall.toFixed(3), p.millisecondsPerPair.toFixed(2), p.expectedMilliseconds.toFixed(2)],
      p.pairsPerSecond.toFixed(0),
    ]),
  );
}

/** A little below the worst quality that matters: what stops at the first layers would flatten all the rest. */
function floor(curves: readonly Curve[]): number {
  const values = curves.flatMap(({ points }) => points.map(({ ndcg }) => ndcg));
  return Math.floor(Math.max(Math.min(...values), Math.max(...values) * 0.5) * 20) / 20;
}

export const page = {
  table: (curves: readonly Curve[]): string => columns([HEADING, ...rows(curves)]),

  absent: ({ rule, settings, reason }: Absent): string => `${rule} (${settings.join(", ")}): ${reason}`,

  /** Quality against cost; and measured against expected time, which fall on one line where the expectation holds. */
  pictures(curves: readonly Curve[]): string[] {
    const series = (at: (point: Point) => readonly [number, number], scattered = false) =>
      curves.map(({ name, points }) => ({ name, scattered, points: points.map(at) }));
    const times = curves.flatMap(({ points }) => points.map((p) => p.expectedMilliseconds));
    const [low, high] = [Math.min(...times), Math.max(...times)];
    return [
      svg({
        ...{ title: "Quality against cost", x: "share of full depth's FLOPs", y: "nDCG@10", from: floor(curves) },
        series: series((p) => [p.compute, p.ndcg]),
      }),
      svg({
        ...{ title: "Measured against expected time", x: "expected: C, ms a pair", y: "measured, ms a pair" },
        series: [
          ...series((p) => [p.expectedMilliseconds, p.millisecondsPerPair], true),
          { name: "as expected", points: [low, high].map((ms) => [ms, ms] as const) },
        ],
      }),
    ];
  },

  html({ machine, about, overhead, leftOut, pictures, curves }: Page): string {
    const missing = leftOut.map((each) => `<li>${escaped(page.absent(each))}</li>`);
    return htmlPage("matryoshka-rerank: quality and cost against depth", [
      `<h1>Quality and cost against depth</h1><p>${escaped(about)}.<br>${escaped(machine)}.</p>`,
      ...pictures,
      `<p>${NOTES} ${escaped(overhead)}</p>`,
      htmlTable(HEADING, rows(curves)),
      ...(missing.length > 0 ? [`<h2>Left out</h2><ul>${missing.join("\n")}</ul>`] : []),
    ]);
  },
};
