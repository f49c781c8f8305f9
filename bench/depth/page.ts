/**
 * The figures of bench:depth as a table for the terminal and as one self-contained HTML page.
 */
import { table as columns } from "../../dist/cli/output.js";

export interface Point {
  readonly label: string;
  /** Mean share of full depth's FLOPs. */
  readonly compute: number;
  /** Σ_l P(exit at l) · cost up to l, for documents of mean length. */
  readonly expectedCost: number;
  /** Share of full depth's time, of the timed queries. */
  readonly wall: number;
  readonly millisecondsPerPair: number;
  readonly pairsPerSecond: number;
  readonly ndcg: number;
  readonly exactTopK: number;
  readonly exitHistogram: Readonly<Record<number, number>>;
}

export interface Curve {
  readonly name: string;
  readonly points: readonly Point[];
}

const HEADING = ["rule", "setting", "FLOPs", "expected cost", "time", "ms/pair", "pairs/s", "nDCG@10", "exact top k"];

function rows(curves: readonly Curve[]): string[][] {
  return curves.flatMap(({ name, points }) =>
    points.map((p) => [
      ...[name, p.label, p.compute.toFixed(3), p.expectedCost.toFixed(3), p.wall.toFixed(3)],
      ...[p.millisecondsPerPair.toFixed(2), p.pairsPerSecond.toFixed(0), p.ndcg.toFixed(4)],
      `${(100 * p.exactTopK).toFixed(0)} %`,
    ]),
  );
}

const STYLE = `:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
svg{width:100%;height:auto;border-radius:8px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .5rem;border-bottom:1px solid #8884;text-align:right}th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}`;

interface Page {
  readonly machine: string;
  readonly about: string;
  readonly pictures: readonly string[];
  readonly curves: readonly Curve[];
}

export const page = {
  table: (curves: readonly Curve[]): string => columns([HEADING, ...rows(curves)]),

  /** A little below the worst quality that matters: what stops at the first layers would flatten all the rest. */
  floor(curves: readonly Curve[]): number {
    const best = Math.max(...curves.flatMap(({ points }) => points.map(({ ndcg }) => ndcg)));
    const worst = Math.min(...curves.flatMap(({ points }) => points.map(({ ndcg }) => ndcg)));
    return Math.floor(Math.max(worst, best * 0.5) * 20) / 20;
  },

  html: ({ machine, about, pictures, curves }: Page): string =>
    `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>matryoshka-rerank: quality and cost against depth</title><style>${STYLE}</style>
<h1>Quality and cost against depth</h1><p>${about}.<br>${machine}.</p>
${pictures.join("\n")}
<table><thead><tr>${HEADING.map((each) => `<th>${each}</th>`).join("")}</tr></thead><tbody>
${rows(curves)
  .map((row) => `<tr>${row.map((each) => `<td>${each}</td>`).join("")}</tr>`)
  .join("\n")}
</tbody></table></html>
`,
};
