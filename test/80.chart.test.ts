/**
 * Charts: round ticks inside the range, and every point inside the frame.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { svg, ticks } from "../lib/report/chart.js";

const number = fc.double({ min: -1e6, max: 1e6, noNaN: true });

describe("ticks", () => {
  it("are a few equal round steps inside the range", () => {
    fc.assert(
      fc.property(number, fc.double({ min: 1e-3, max: 1e6, noNaN: true }), (low, span) => {
        const found = ticks(low, low + span, 6);
        expect(found.length).toBeGreaterThanOrEqual(2);
        expect(found.length).toBeLessThanOrEqual(7);
        for (const t of found) expect(t >= low - span * 1e-6 && t <= low + span * (1 + 1e-6)).toBe(true);
        const step = found[1]! - found[0]!;
        const mantissa = step / 10 ** Math.floor(Math.log10(step) + 1e-6);
        expect([1, 2, 2.5, 5, 10].some((each) => Math.abs(each - mantissa) < 1e-3)).toBe(true);
      }),
    );
  });
});

describe("a chart", () => {
  const points = fc.array(
    fc.tuple(fc.double({ min: 1, max: 5000, noNaN: true }), fc.double({ min: 0, max: 1e5, noNaN: true })),
    {
      minLength: 1,
    },
  );
  it("keeps every point inside its frame, one point or many equal ones included", () => {
    fc.assert(
      fc.property(points, fc.boolean(), (own, logX) => {
        const picture = svg({ title: "<a> & b", x: "x", y: "y", logX, series: [{ name: "one", points: own }] });
        expect(picture).not.toMatch(/NaN|Infinity|<a>/);
        const dots = [...picture.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)" r="3.5"/g)];
        expect(dots).toHaveLength(own.length);
        for (const [, cx, cy] of dots) {
          expect(Number(cx)).toBeLessThanOrEqual(760 - 20);
          expect(Number(cx)).toBeGreaterThanOrEqual(70);
          expect(Number(cy)).toBeGreaterThan(44);
          expect(Number(cy)).toBeLessThanOrEqual(440 - 54);
        }
      }),
    );
  });

  it("breaks a long legend into lines above the plot", () => {
    const series = Array.from({ length: 8 }, (_, i) => ({
      name: `a rule with a rather long name, ${i}`,
      points: [[i, 1]] as const,
    }));
    const picture = svg({ title: "t", x: "x", y: "y", series });
    const lines = new Set([...picture.matchAll(/cy="(\d+)" r="5"/g)].map(([, y]) => y));
    expect(lines.size).toBeGreaterThan(2);
    expect(Math.max(...[...lines].map(Number))).toBeLessThan(
      Math.min(...[...picture.matchAll(/cy="([\d.]+)" r="3.5"/g)].map(([, y]) => Number(y))),
    );
  });
});
