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
const BOX = { left: 70, right: 20, top: 44, bottom: 54 };
const COLOURS = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#65a30d"];

/** Round steps that divide [low, high] into about `count` parts. */
export function ticks(low: number, high: number, count = 6): number[] {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => span / each <= count)!;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const escaped = (text: string): string =>
  text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]!);
const short = (value: number): string => String(Number(value.toPrecision(4)));

export function svg({ title, x, y, series: all, logX = false, from = 0 }: Chart): string {
  const series = all.map((each) => ({ ...each, points: each.points.filter(([, py]) => py >= from) }));
  const points = series.flatMap((each) => each.points);
  const [lowX, highX] = [Math.min(...points.map(([px]) => px)), Math.max(...points.map(([px]) => px))];
  const highY = Math.max(...points.map(([, py]) => py)) * (from === 0 ? 1.05 : 1.01);
  const along = (value: number) =>
    logX ? Math.log2(value / lowX) / Math.log2(highX / lowX) : (value - lowX) / (highX - lowX);
  const atX = (value: number) => BOX.left + along(value) * (WIDTH - BOX.left - BOX.right);
  const atY = (value: number) =>
    HEIGHT - BOX.bottom - ((value - from) / (highY - from)) * (HEIGHT - BOX.top - BOX.bottom);
  const xTicks = logX ? [...new Set(points.map(([px]) => px))] : ticks(lowX, highX, 11);
  const grid = [
    ...xTicks.map(
      (t) =>
        `<text class="t" x="${atX(t).toFixed(1)}" y="${HEIGHT - BOX.bottom + 18}" text-anchor="middle">${short(t)}</text>`,
    ),
    ...ticks(from, highY).flatMap((t) => [
      `<line class="g" x1="${BOX.left}" x2="${WIDTH - BOX.right}" y1="${atY(t).toFixed(1)}" y2="${atY(t).toFixed(1)}"/>`,
      `<text class="t" x="${BOX.left - 8}" y="${(atY(t) + 4).toFixed(1)}" text-anchor="end">${short(t)}</text>`,
    ]),
  ];
  const drawn = series.map(({ points: own, scattered }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const at = own.map(([px, py]) => [atX(px).toFixed(1), atY(py).toFixed(1)] as const);
    const line = scattered
      ? ""
      : `<polyline fill="none" stroke="${colour}" stroke-width="2" points="${at.map((p) => p.join(",")).join(" ")}"/>`;
    return line + at.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3.5" fill="${colour}"/>`).join("");
  });
  const legend = series.map(({ name }, i) => {
    const top = BOX.top + 6 + i * 18;
    return `<rect x="${BOX.left + 12}" y="${top}" width="12" height="12" rx="2" fill="${COLOURS[i % COLOURS.length]}"/><text class="t" x="${BOX.left + 30}" y="${top + 10}">${escaped(name)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${escaped(title)}">`,
    "<style>svg{background:#fff}.t{fill:#334155}.g{stroke:#e2e8f0}@media (prefers-color-scheme:dark){svg{background:#0f172a}.t{fill:#cbd5e1}.g{stroke:#334155}}</style>",
    `<text class="t" x="${BOX.left}" y="24" font-size="15" font-weight="600">${escaped(title)}</text>`,
    ...grid,
    ...drawn,
    ...legend,
    `<text class="t" x="${(BOX.left + WIDTH - BOX.right) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escaped(x)}</text>`,
    `<text class="t" transform="translate(18 ${(BOX.top + HEIGHT - BOX.bottom) / 2}) rotate(-90)" text-anchor="middle">${escaped(y)}</text>`,
    "</svg>\n",
  ].join("\n");
}
