/**
 * Line charts as SVG, legible on light and dark pages.
 */

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** Points alone, without a line between them. */
  readonly scattered?: boolean;
}

export interface Chart {
  readonly title: string;
  readonly x: string;
  readonly y: string;
  readonly series: readonly Series[];
  /** Powers of two on the x axis. */
  readonly logX?: boolean;
  /** Where the y axis begins; points below it are left out. Defaults to 0. */
  readonly from?: number;
}

const WIDTH = 760;
const HEIGHT = 440;
const MARGIN = { left: 70, right: 20, top: 44, bottom: 54 };
/** A legend's line, and the width of one of its letters with room to spare. */
const LINE = 18;
const LETTER = 7;
/** As bright on white as on the dark page. */
const COLOURS = ["#3b82f6", "#ef4444", "#10a37f", "#d97706", "#8b5cf6", "#0891b2", "#db2777", "#65a30d"];

/** Round steps that divide [low, high] into about `count` parts. */
export function ticks(low: number, high: number, count = 6): number[] {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => span / each <= count)!;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

export const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);
const short = (value: number): string => String(Number(value.toPrecision(4)));

/** Where each name of a legend goes, left to right in as many lines as it takes. */
function legend(names: readonly string[]): {
  readonly at: readonly (readonly [x: number, line: number])[];
  lines: number;
} {
  let [x, line] = [MARGIN.left, 0];
  const at = names.map((name) => {
    const width = 40 + name.length * LETTER;
    if (x > MARGIN.left && x + width > WIDTH - MARGIN.right) [x, line] = [MARGIN.left, line + 1];
    const place = [x, line] as const;
    x += width;
    return place;
  });
  return { at, lines: line + 1 };
}

export function svg({ title, x, y, series: all, logX = false, from = 0 }: Chart): string {
  const series = all.map((each) => ({ ...each, points: each.points.filter(([, py]) => py >= from) }));
  const points = series.flatMap((each) => each.points);
  const [lowX, highX] = [Math.min(...points.map(([px]) => px)), Math.max(...points.map(([px]) => px))];
  const highY = Math.max(...points.map(([, py]) => py)) * (from === 0 ? 1.05 : 1.01);
  const names = legend(series.map(({ name }) => name));
  const [right, top, bottom] = [WIDTH - MARGIN.right, MARGIN.top + names.lines * LINE, HEIGHT - MARGIN.bottom];
  const share = (value: number, low: number, high: number) => (high > low ? (value - low) / (high - low) : 0.5);
  const along = (value: number) =>
    logX ? share(Math.log2(value), Math.log2(lowX), Math.log2(highX)) : share(value, lowX, highX);
  const atX = (value: number) => (MARGIN.left + along(value) * (right - MARGIN.left)).toFixed(1);
  const atY = (value: number) => (bottom - share(value, from, highY) * (bottom - top)).toFixed(1);
  const xTicks = logX ? [...new Set(points.map(([px]) => px))] : ticks(lowX, highX, 11);
  const grid = [
    ...xTicks.map((t) => `<text class="t" x="${atX(t)}" y="${bottom + 18}" text-anchor="middle">${short(t)}</text>`),
    ...ticks(from, highY).flatMap((t) => [
      `<line class="g" x1="${MARGIN.left}" x2="${right}" y1="${atY(t)}" y2="${atY(t)}"/>`,
      `<text class="t" x="${MARGIN.left - 8}" y="${Number(atY(t)) + 4}" text-anchor="end">${short(t)}</text>`,
    ]),
  ];
  const drawn = series.map(({ name, points: own, scattered }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const [left, line] = names.at[i]!;
    const middle = MARGIN.top + line * LINE;
    const path = own.map(([px, py]) => `${atX(px)},${atY(py)}`).join(" ");
    return [
      `<circle cx="${left + 6}" cy="${middle - 4}" r="5" fill="${colour}"/><text class="t" x="${left + 18}" y="${middle}">${escaped(name)}</text>`,
      ...(scattered ? [] : [`<polyline fill="none" stroke="${colour}" stroke-width="2" points="${path}"/>`]),
      ...own.map(
        ([px, py]) =>
          `<circle cx="${atX(px)}" cy="${atY(py)}" r="3.5" fill="${colour}"><title>${escaped(name)}: ${short(px)}, ${short(py)}</title></circle>`,
      ),
    ].join("\n");
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${escaped(title)}">`,
    "<style>svg{background:#fff}.t{fill:#334155}.g{stroke:#e2e8f0}@media (prefers-color-scheme:dark){svg{background:#0f172a}.t{fill:#cbd5e1}.g{stroke:#334155}}</style>",
    `<text class="t" x="${MARGIN.left}" y="24" font-size="15" font-weight="600">${escaped(title)}</text>`,
    ...grid,
    ...drawn,
    `<text class="t" x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escaped(x)}</text>`,
    `<text class="t" transform="translate(18 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">${escaped(y)}</text>`,
    "</svg>\n",
  ].join("\n");
}
