/**
 * An evaluation as a table for the terminal, as CSV or as markdown: a line for each depth and each rule.
 */
import { table } from "./output.js";
import type { Report, Significance } from "./report.js";

export const FORMATS = ["table", "csv", "markdown"] as const;
export type Format = (typeof FORMATS)[number];

export function render(report: Report, format: Format): string {
  const rows = rowsOf(report);
  if (format === "csv") return rows.map((row) => row.map(csvCell).join(",")).join("\n");
  const { dataset, split, run, model, dtype, maxLength, candidates, queries, pairs } = report;
  const title =
    `${dataset} ${split}, ${queries} queries, ${pairs} pairs: up to ${candidates} candidates of ${run}, ` +
    `reranked by ${model} in ${dtype}, sequences up to ${maxLength} tokens`;
  if (format === "table") return `${title}\n\n${table(rows)}`;
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [
    title,
    "",
    line(rows[0]!),
    line(rows[0]!.map((_, i) => (i === 0 ? "---" : "--:"))),
    ...rows.slice(1).map(line),
  ].join("\n");
}

function rowsOf({ firstStage, depths, rules }: Report): string[][] {
  const measures = Object.keys(firstStage.metrics);
  const compared = [...depths, ...rules].find(({ significance }) => significance)?.significance;
  const metrics = (values: Readonly<Record<string, number>>): string[] => measures.map((m) => values[m]!.toFixed(4));
  const number = (value: number | null | undefined, digits: number): string => value?.toFixed(digits) ?? "";
  const difference = (found?: Significance): string[] =>
    compared ? [found ? signed(found.difference) : "", found ? found.randomisationP.toPrecision(2) : ""] : [];
  return [
    [
      ...["ranking", "compute", "wall", "pairs/s", "exact top k", "of top k"],
      ...measures,
      ...(compared ? [`Δ ${compared.measure}`, "p"] : []),
    ],
    ["first stage", "", "", "", "", "", ...metrics(firstStage.metrics), ...difference(firstStage.significance)],
    ...depths.map((d) => [
      ...[`layer ${d.layer}`, number(d.computeFraction, 3), "", number(d.pairsPerSecond, 0), "", ""],
      ...[...metrics(d.metrics), ...difference(d.significance)],
    ]),
    ...rules.map((r) => [
      ...[r.rule, number(r.computeFraction, 3), number(r.wallFraction, 3), number(r.pairsPerSecond, 0)],
      ...[number(r.exactTopK, 3), number(r.recallTopK, 3), ...metrics(r.metrics), ...difference(r.significance)],
    ]),
  ];
}

function signed(value: number): string {
  return `${value < 0 ? "" : "+"}${value.toFixed(4)}`;
}

function csvCell(cell: string): string {
  return /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
