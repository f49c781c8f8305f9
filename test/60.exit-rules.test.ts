/**
 * Exit rules, replayed over stored trajectories, stop exactly the documents they say, in float32.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isTopKExact } from "../lib/certify/assess.js";
import { firstStageDifficulty, listConfidence, sureness } from "../lib/exit/confidence.js";
import { blockFlops, fullFlops, listFlops, peekFlops } from "../lib/exit/cost.js";
import { estimate, halfWidth, lower, upper } from "../lib/exit/estimate.js";
import { expNonPositive } from "../lib/exit/exp.js";
import { replay } from "../lib/exit/replay.js";
import type { ConfidenceRule, ExitHead, TopKRule } from "../lib/exit/rule.js";
import { kthLargest } from "../lib/exit/select.js";
import { checkTrajectory, ranked, type Trajectory } from "../lib/exit/trajectory.js";
import { criticalScales } from "./critical-scales.js";
import { handmade, head, stopped } from "./synthetic.js";

const topK = (k: number, scale: number, ...exits: ExitHead[]): TopKRule => ({ type: "top-k", k, scale, exits });

/** Few distinct values make ties; specials must never stop anybody. */
const score = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: -3, max: 3 }) },
  { weight: 6, arbitrary: fc.float({ min: -8, max: 8, noNaN: true }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 3e38, -3e38),
  },
);
const positive = fc.float({ min: Math.fround(1e-3), max: 4, noNaN: true });
const scenario = fc
  .record({
    m: fc.integer({ min: 0, max: 14 }),
    exits: fc.integer({ min: 1, max: 4 }),
    k: fc.integer({ min: 1, max: 6 }),
  })
  .chain(({ m, exits, k }) =>
    fc.record({
      k: fc.constant(k),
      list: fc
        .array(fc.array(score, { minLength: exits + 1, maxLength: exits + 1 }), { minLength: m, maxLength: m })
        .map((rows) => handmade(rows)),
      layers: fc.constant(Array.from({ length: exits + 1 }, (_, j) => 2 * j + 1)),
      heads: fc
        .array(
          fc.record({
            slope: fc.float({ min: -2, max: 2, noNaN: true }),
            offset: fc.float({ min: -2, max: 2, noNaN: true }),
            width: positive,
            trend: fc.option(positive, { nil: 0 }),
            spread: fc.option(positive, { nil: undefined, freq: 1 }),
          }),
          { minLength: exits, maxLength: exits },
        )
        .map((heads) =>
          heads.map(
            ({ spread, ...each }, j): ExitHead => ({
              ...each,
              layer: 2 * j + 1,
              ...(spread !== undefined && { spread }),
            }),
          ),
        ),
    }),
  );

describe("the top-k rule", () => {
  it("stops a document once its upper end is below the k-th largest lower end", () => {
    // Half-width 0.5: lower ends 4.5, 2.5, 1.5, 0.5; upper ends 5.5, 3.5, 2.5, 1.5. k = 2: θ = 2.5; 2.5 is not below it.
    const list = handmade([
      [5, 5],
      [3, 3],
      [2, 2],
      [1, 1],
    ]);
    expect(stopped(topK(2, 0.5, head(1)), list, [1, 2])).toEqual([2, 2, 2, 1]);
    expect(stopped(topK(2, 0.25, head(1)), list, [1, 2])).toEqual([2, 2, 1, 1]);
    expect(stopped(topK(1, 0.25, head(1)), list, [1, 2])).toEqual([2, 1, 1, 1]);
  });

  it("decides among those still running only, and widens with a document's own change", () => {
    const list = handmade([
      [9, 1, 9],
      [8, 8, 8],
      [7.9, 7.5, 7],
      [0, 9, 0],
    ]);
    // The last document stops at the first exit: it has no say at the second, though it would have 9 there.
    expect(stopped(topK(2, 0.1, head(1), head(2)), list, [1, 2, 3])).toEqual([2, 3, 3, 1]);
    // With a trend the first document's fall from 9 to 1 widens its interval by as much, and it stays.
    expect(stopped(topK(2, 0.1, head(1), head(2, 1, 10)), list, [1, 2, 3])).toEqual([3, 3, 3, 1]);
  });

  it("widens with how far the list's changes part from its first exit to its second, where it only measures", () => {
    const rows = [
      [9, 9, 9],
      [5, 5, 5],
      [0, 0, 0],
    ];
    const exits = [head(1), { ...head(2, 0.1), spread: 1 }];
    // Nothing moved: g = 0. Nobody stops at the first exit, though without a spread two would.
    expect(stopped(topK(1, 1, ...exits), handmade(rows), [1, 2, 3])).toEqual([3, 2, 2]);
    expect(stopped(topK(1, 1, head(1), head(2)), handmade(rows), [1, 2, 3])).toEqual([3, 1, 1]);
    // All rose by 7, which parts nobody; then the last by 2 more, so that 9 − 2.1 is below 5 + 2.1 but not below 2 + 2.1.
    expect(stopped(topK(1, 1, ...exits), handmade(rows.map(([a, b, c]) => [a! - 7, b!, c!])), [1, 2, 3])).toEqual([
      3, 2, 2,
    ]);
    const parted = handmade(rows.map(([a, b, c], d) => [a!, d === 2 ? 2 : b!, c!]));
    expect(stopped(topK(1, 1, ...exits), parted, [1, 2, 3])).toEqual([3, 3, 2]);
    // Changes that are not finite do not count; one exit alone can only measure.
    const broken = handmade([...rows, [Number.NaN, 1, 1], [1, Number.POSITIVE_INFINITY, 1]]);
    expect(stopped(topK(1, 1, ...exits), broken, [1, 2, 3])).toEqual([3, 2, 2, 3, 3]);
    expect(stopped(topK(1, 1, { ...head(1), spread: 1 }), handmade(rows), [1, 3])).toEqual([3, 3, 3]);
  });

  it("never stops ties, lists of at most k documents, or scores that are not finite", () => {
    const constant = handmade(Array.from({ length: 5 }, () => [1, 1, 1]));
    expect(stopped(topK(2, 0, head(1), head(2)), constant, [1, 2, 3])).toEqual([3, 3, 3, 3, 3]);
    const spread = handmade([
      [9, 9],
      [1, 1],
      [0, 0],
    ]);
    for (const k of [3, 4, 1000]) expect(stopped(topK(k, 0, head(1)), spread, [1, 2])).toEqual([2, 2, 2]);
    const broken = handmade([
      [9, 9],
      [8, 8],
      [Number.NaN, 1],
      [-Infinity, 0],
      [1, 1],
    ]);
    expect(stopped(topK(2, 0, head(1)), broken, [1, 2])).toEqual([2, 2, 2, 2, 1]);
    // A score that is not finite counts as the lowest of the others' rivals: two finite ones are needed above.
    expect(stopped(topK(3, 0, head(1)), broken, [1, 2])).toEqual([2, 2, 2, 2, 2]);
    expect(stopped(topK(2, 1, head(1)), handmade([]), [1, 2])).toEqual([]);
  });

  it("gives exact documents first, by score, then stopped ones, by estimate, ties in input order", () => {
    const list = handmade([
      [0, 5],
      [9, 3],
      [1, 9],
      [9, 7],
      [1, 0],
    ]);
    const { order, exact, scores, exitLayers } = replay(topK(2, 0, head(1)), list, [1, 2]);
    expect([...exitLayers]).toEqual([1, 2, 1, 2, 1]);
    expect([...order]).toEqual([3, 1, 2, 4, 0]);
    expect([...exact]).toEqual([0, 1, 0, 1, 0]);
    expect([...scores]).toEqual([0, 3, 1, 7, 1]);
    const compensated = topK(2, 0, { ...head(1), slope: 2, offset: -1 });
    expect([...replay(compensated, list, [1, 2]).scores]).toEqual([-1, 3, 1, 7, 1]);
  });

  it("keeps the true top k, in order and scored exactly, at every scale from the critical one up", () => {
    fc.assert(
      fc.property(scenario, fc.float({ min: 1, max: 3, noNaN: true }), ({ k, list, layers, heads }, factor) => {
        const [critical] = criticalScales(heads, [list], layers, k);
        fc.pre(Number.isFinite(critical!));
        for (const scale of [critical!, Math.fround(critical! * factor), Math.fround(critical! + factor)]) {
          const result = replay(topK(k, scale, ...heads), list, layers);
          expect(
            isTopKExact(
              result,
              ranked(Float32Array.from(list.documents, (_, d) => list.scores[(d + 1) * layers.length - 1]!)),
              k,
            ),
          ).toBe(true);
        }
      }),
      { numRuns: 1500 },
    );
  });

  it("loses one of the top k just below the critical scale, where one exit decides", () => {
    let positiveScales = 0;
    fc.assert(
      fc.property(scenario, ({ k, list, layers, heads }) => {
        const only = [heads[0]!];
        const [critical] = criticalScales(only, [list], layers, k);
        fc.pre(Number.isFinite(critical!) && critical! > 0.05);
        positiveScales++;
        const below = replay(topK(k, Math.fround(critical! * 0.9), ...only), list, layers);
        const final = Float32Array.from(list.documents, (_, d) => list.scores[(d + 1) * layers.length - 1]!);
        expect(isTopKExact(below, ranked(final), k)).toBe(false);
      }),
      { numRuns: 300 },
    );
    expect(positiveScales).toBeGreaterThan(50);
  });

  it("agrees with a plain reading of its definition", () => {
    fc.assert(
      fc.property(scenario, fc.float({ min: 0, max: 3, noNaN: true }), ({ k, list, layers, heads }, scale) => {
        expect(stopped(topK(k, scale, ...heads), list, layers)).toEqual(plain(k, scale, heads, list, layers));
      }),
      { numRuns: 1500 },
    );
  });

  it("refuses exits that the trajectories lack, at full depth, or out of order", () => {
    const list = handmade([[1, 1, 1]]);
    for (const exits of [[head(3)], [head(7)], [head(2), head(1)], [head(1), head(1)]]) {
      expect(() => replay(topK(1, 1, ...exits), list, [1, 2, 3])).toThrow(
        /Expected exits in ascending order out of the layers 1, 2/,
      );
    }
  });
});

/** The rule written down once more, by counting instead of selecting. */
function plain(
  k: number,
  scale: number,
  heads: readonly ExitHead[],
  list: Trajectory,
  layers: readonly number[],
): number[] {
  const f = Math.fround;
  const exit = list.documents.map(() => layers.at(-1)!);
  let alive = list.documents.map((_, d) => d);
  const a = (d: number, i: number): number =>
    f(f(f(heads[i]!.slope) * list.scores[d * layers.length + i]!) + f(heads[i]!.offset));
  const measured = heads.some(({ spread }) => spread !== undefined);
  const changes = measured && heads[1] ? alive.map((d) => f(a(d, 1) - a(d, 0))).filter(Number.isFinite) : [];
  const g = changes.length > 0 ? f(Math.max(...changes) - Math.min(...changes)) : 0;
  heads.forEach((h, j) => {
    if (alive.length <= k || (measured && j === 0)) return;
    const change = (d: number) => (j > 0 ? Math.abs(f(a(d, j) - a(d, j - 1))) : 0);
    const half = (d: number): number =>
      f(f(scale) * f(f(f(h.width) + f(f(h.trend) * change(d))) + f(f(h.spread ?? 0) * g)));
    const ends = alive.map((d) => {
      const fine = Number.isFinite(a(d, j)) && Number.isFinite(half(d));
      return { d, low: fine ? f(a(d, j) - half(d)) : -Infinity, high: fine ? f(a(d, j) + half(d)) : Infinity };
    });
    const out = ends.filter(({ high }) => ends.filter(({ low }) => low > high).length >= k);
    for (const { d } of out) exit[d] = h.layer;
    alive = alive.filter((d) => !out.some((each) => each.d === d));
  });
  return exit;
}

describe("the arithmetic of a decision", () => {
  it("rounds every operation to float32, in the documented order, without fusing", () => {
    const f = Math.fround;
    const [slope, s, offset, width, trend, change, scale] = [1.1, 2.3, 0.7, 0.3, 0.9, 0.123, 1.7] as const;
    const a = f(f(f(slope) * f(s)) + f(offset));
    expect(estimate({ slope, offset }, f(s))).toBe(a);
    expect(halfWidth({ layer: 1, slope, offset, width, trend }, f(change))).toBe(f(f(width) + f(f(trend) * f(change))));
    expect(halfWidth({ layer: 1, slope, offset, width, trend, spread: 0.77 }, f(change), f(1.3), f(2.1))).toBe(
      f(f(f(f(width) * f(1.3)) + f(f(trend) * f(change))) + f(f(0.77) * f(2.1))),
    );
    expect(upper(a, f(0.4), scale)).toBe(f(a + f(f(scale) * f(0.4))));
    expect(lower(a, f(0.4), scale)).toBe(f(a - f(f(scale) * f(0.4))));
    // slope · s = 1 + 2^-11 + 2^-24 exactly; a fused operation would keep the last bit and return 2^-24.
    const fine = 1 + 2 ** -12;
    expect(estimate({ slope: fine, offset: -(1 + 2 ** -11) }, fine)).toBe(0);
  });

  it("opens the interval where anything is not finite", () => {
    for (const [a, c, scale] of [
      [Number.NaN, 1, 1],
      [Infinity, 1, 1],
      [1, Number.NaN, 1],
      [1, Infinity, 0],
      [1, 3e38, 3e38],
    ] as const) {
      expect(upper(a, c, scale)).toBe(Infinity);
      expect(lower(a, c, scale)).toBe(-Infinity);
    }
  });

  it("selects the k-th largest", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 4 }), fc.float({ noNaN: true })), { minLength: 1 }),
        fc.nat(),
        (values, at) => {
          const k = 1 + (at % values.length);
          const sorted = Float32Array.from(values).sort().reverse();
          // 0 and −0 are one value to a rule, and sorting orders them.
          expect(kthLargest(Float32Array.from(values), values.length, k) + 0).toBe(sorted[k - 1]! + 0);
        },
      ),
    );
  });

  it("has an exponential within 2e-15 that is the same everywhere", () => {
    for (let x = 0; x > -705; x -= 0.37) {
      const expected = x < -700 ? 0 : Math.exp(x);
      expect(Math.abs(expNonPositive(x) - expected)).toBeLessThanOrEqual(2e-15 * expected);
    }
    expect(expNonPositive(0)).toBe(1);
    expect(expNonPositive(Number.NEGATIVE_INFINITY)).toBe(0);
    // Its bits over a range, hashed: the same as compiled C++ without contraction gives.
    const bits = new BigUint64Array(1);
    let hash = 0n;
    for (let i = 0; i < 200_000; i++) {
      new Float64Array(bits.buffer)[0] = expNonPositive(-i * 0.0034567);
      hash = BigInt.asUintN(64, hash * 1099511628211n) ^ bits[0]!;
    }
    expect(hash.toString(16)).toBe("9bc6f426ff8d142e");
  });
});

describe("the layer and full rules", () => {
  const list = handmade([
    [1, 9, 3],
    [2, 7, 3],
    [3, 8, Number.NaN],
    [0, 8, 5],
  ]);
  it("run everybody to one depth and rank by its raw scores, ties in input order, NaN last", () => {
    expect(replay({ type: "full" }, list, [4, 8, 12])).toMatchObject({
      exitLayers: Uint8Array.of(12, 12, 12, 12),
      exact: Uint8Array.of(1, 1, 1, 1),
      order: Uint32Array.of(3, 0, 1, 2),
    });
    expect(replay({ type: "layer", layer: 8 }, list, [4, 8, 12])).toMatchObject({
      exitLayers: Uint8Array.of(8, 8, 8, 8),
      exact: Uint8Array.of(0, 0, 0, 0),
      order: Uint32Array.of(0, 2, 3, 1),
      scores: Float32Array.of(9, 7, 8, 8),
    });
    expect(replay({ type: "layer", layer: 12 }, list, [4, 8, 12])).toEqual(replay({ type: "full" }, list, [4, 8, 12]));
    expect(() => replay({ type: "layer", layer: 5 }, list, [4, 8, 12])).toThrow(/out of the layers 4, 8, got layer 5/);
  });
});

describe("the confidence rule", () => {
  const exit = (layer: number, threshold: number) => ({ layer, slope: 1, offset: 0, threshold });
  const rule = (
    over: "pair" | "list",
    threshold: number,
    difficulty?: ConfidenceRule["difficulty"],
  ): ConfidenceRule => ({
    type: "confidence",
    over,
    exits: [exit(1, threshold), exit(2, threshold)],
    ...(difficulty && { difficulty }),
  });

  it("over a pair stops whoever is sure to be relevant or sure not to be, and ranks all by estimate", () => {
    const list = handmade([
      [4, 0, 1],
      [-4, 0, 1],
      [0.5, -3, 1],
      [0.5, 1, 0],
    ]);
    const { exitLayers, order, exact } = replay(rule("pair", 0.9), list, [1, 2, 3]);
    expect([...exitLayers]).toEqual([1, 1, 2, 3]);
    expect([...order]).toEqual([0, 3, 2, 1]);
    expect([...exact]).toEqual([0, 0, 0, 1]);
  });

  it("compares max(σ, 1 − σ) with the threshold", () => {
    fc.assert(
      fc.property(
        fc.float({ min: -20, max: 20, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (a, threshold) => {
          const confidence = 1 / (1 + Math.exp(-Math.abs(a)));
          if (Math.abs(confidence - threshold) > 1e-12) {
            expect(Math.abs(a) > sureness(rule("pair", threshold), threshold)).toBe(confidence > threshold);
          }
        },
      ),
    );
    expect(sureness(rule("pair", 1), 1)).toBe(Infinity);
    expect(sureness(rule("pair", 0.5), 0.5)).toBe(0);
    expect(sureness(rule("list", 0.7), 0.7)).toBe(0.7);
  });

  it("over a list stops everybody still running at once", () => {
    const list = handmade([
      [1, 9, 1],
      [0, 0, 2],
      [0, 0, 3],
    ]);
    expect(stopped(rule("list", 0.9), list, [1, 2, 3])).toEqual([2, 2, 2]);
    expect(stopped(rule("list", 1), list, [1, 2, 3])).toEqual([3, 3, 3]);
    expect(listConfidence([0, 0, 0, 0])).toBe(0.25);
    expect(listConfidence([5, Number.NaN, Number.NEGATIVE_INFINITY, 5])).toBe(0.5);
    expect(listConfidence([Number.NaN])).toBe(0);
  });

  it("stops what the first stage puts far from its own boundary", () => {
    const list = {
      ...handmade([
        [0, 0, 4],
        [0, 0, 3],
        [0, 0, 2],
        [0, 0, 1],
      ]),
      firstStage: Float32Array.of(10, 9, 8, 1),
    };
    expect([...firstStageDifficulty(list.firstStage, 2)]).toEqual([0.875, 1, 0.875, 0].map(Math.fround));
    expect(stopped(rule("pair", 1, { easy: 0.5, k: 2 }), list, [1, 2, 3])).toEqual([3, 3, 3, 1]);
    expect([...firstStageDifficulty([3, 3, 3], 1)]).toEqual([1, 1, 1]);
    expect([...firstStageDifficulty([3, 2], 2)]).toEqual([1, 1]);
    expect(() => replay(rule("pair", 1, { easy: 0.5, k: 2 }), handmade([[1, 1, 1]]), [1, 2, 3])).toThrow(
      /needs the candidates' first-stage scores/,
    );
  });

  it("never stops scores that are not finite", () => {
    const list = {
      ...handmade([
        [Number.NaN, 9, 1],
        [Infinity, Number.NaN, 2],
        [9, 9, 0],
      ]),
      firstStage: Float32Array.of(1, 2, 3),
    };
    expect(stopped(rule("pair", 0.6, { easy: 2, k: 1 }), list, [1, 2, 3])).toEqual([2, 3, 1]);
    expect(stopped(rule("list", 0.1), list, [1, 2, 3])).toEqual([2, 3, 1]);
  });
});

describe("the cost model", () => {
  it("gives the block sizes and peek shares of known models", () => {
    const table = [
      [{ layers: 12, hidden: 384, intermediate: 1536 }, 128, 0.478, 0.164],
      [{ layers: 12, hidden: 384, intermediate: 1536 }, 512, 2.215, 0.138],
      [{ layers: 12, hidden: 768, intermediate: 3072 }, 128, 1.86, 0.169],
      [{ layers: 24, hidden: 1024, intermediate: 4096 }, 512, 13.96, 0.155],
    ] as const;
    for (const [shape, n, gigaflops, share] of table) {
      expect(blockFlops(shape, n) / 1e9).toBeCloseTo(gigaflops, 2);
      expect(peekFlops(shape, n) / blockFlops(shape, n)).toBeCloseTo(share, 3);
    }
  });

  it("charges blocks below the exit and a peek at it, and nothing twice", () => {
    const shape = { layers: 12, hidden: 384, intermediate: 1536 };
    expect(listFlops(shape, [100, 50], [12, 12])).toBe(fullFlops(shape, [100, 50]));
    expect(listFlops(shape, [100], [1])).toBe(peekFlops(shape, 100));
    expect(listFlops(shape, [100, 7], [3, 5])).toBe(
      2 * blockFlops(shape, 100) + peekFlops(shape, 100) + 4 * blockFlops(shape, 7) + peekFlops(shape, 7),
    );
  });
});

describe("trajectories", () => {
  it("are refused when their shapes disagree", () => {
    const list = handmade([
      [1, 2],
      [3, 4],
    ]);
    expect(() => checkTrajectory(list, 3)).toThrow(/query "q": expected 6 scores for 2 documents and 3 exits, got 4/);
    expect(() => checkTrajectory({ ...list, tokens: Int32Array.of(1) }, 2)).toThrow(/expected 2 token counts/);
    expect(() => checkTrajectory({ ...list, firstStage: Float32Array.of(1) }, 2)).toThrow(
      /expected 2 first-stage scores/,
    );
    expect(() => checkTrajectory({ ...list, firstStage: Float32Array.of(1, Number.NaN) }, 2)).toThrow(
      /finite first-stage scores/,
    );
  });
});
