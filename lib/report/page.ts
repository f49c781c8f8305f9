/**
 * Self-contained HTML pages of charts and tables: light and dark, without scripts.
 */
import { escaped } from "./chart.js";

const STYLE = `:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}
svg{width:100%;height:auto;border-radius:8px}div{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .4rem;border-bottom:1px solid #8884;text-align:right;white-space:nowrap}th:nth-child(-n+2),td:nth-child(-n+2){text-align:left}
pre{overflow-x:auto}`;

/** `body` is HTML. */
export function htmlPage(title: string, body: readonly string[]): string {
  return [
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
    `<title>${escaped(title)}</title><style>${STYLE}</style>`,
    ...body,
    "</html>\n",
  ].join("\n");
}

/** A table as HTML; the first two columns are words. */
export function htmlTable(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]) =>
    `<tr>${row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join("")}</tr>`;
  return [
    `<div><table><thead>${cells("th", heading)}</thead><tbody>`,
    ...rows.map((row) => cells("td", row)),
    "</tbody></table></div>",
  ].join("\n");
}
