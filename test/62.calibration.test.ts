/**
 * Calibration keeps its promise: coverage follows the law it should, violations stay within δ, and calibrators that are
 * subtly wrong are caught by the same checks.
 */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { assess, fullOrder, isTopKExact } from "../lib/certify/assess.js";
import { type CalibrateOptions, calibrate, calibrator } from "../lib/certify/calibrate.js";
import { fitCompensation } from "../lib/certify/compensation.js";
import {
  crcScale,
  discountWeights,
  ndcgWeights,
  queriesNeededForRisk,
  rcpsScale,
  recallWeights,
} from "../lib/certify/crc.js";
import { documentScales } from "../lib/certify/critical-scale.js";
import { type FrontierPoint, frontier, lose, spend } from "../lib/certify/frontier.js";
import { groupScales, scaleAt } from "../lib/certify/groups.js";
import { lossOf } from "../lib/certify/losses.js";
import { nearDuplicates, normalize } from "../lib/certify/near-duplicates.js";
import { marginalIndex, pacIndex, queriesNeeded, queriesNeededMarginal } from "../lib/certify/order-statistic.js";
import { splitQueries } from "../lib/certify/split.js";
import { fitWidths, typicalSpread, withSpread } from "../lib/certify/widths.js";
import { idealDcg, measure, parseMeasure } from "../lib/eval/metrics.js";
import { Random } from "../lib/eval/random.js";
import { regularizedBeta } from "../lib/eval/special.js";
import { replay } from "../lib/exit/replay.js";
import type { ExitHead, TopKRule } from "../lib/exit/rule.js";
import type { TrajectorySet } from "../lib/exit/trajectory.js";
import { criticalScales } from "./critical-scales.js";
import { handmade, synthetic } from "./synthetic.js";

const K = 10;
const cost = { layers: 12, hidden: 384, intermediate: 1536 };
const fingerprint = { modelHash: "m", tokenizerHash: "t", dtype: "f32", maxLength: 256 };
const options: CalibrateOptions = {
  k: K,
  alpha: 0.1,
  delta: 0.1,
  fingerprint,
  cost,
  createdFrom: "synthetic",
  widths: "layer",
};
const topK = (exits: readonly ExitHead[], scale: number): TopKRule => ({ type: "top-k", k: K, scale, exits });

/** A population of stored queries, its frozen shape, and every query's critical scale. */
let pool: TrajectorySet;
let exits: ExitHead[];
let scales: Float32Array;
beforeAll(() => {
  pool = synthetic({ lists: 600, m: 40, seed: "pool" });
  const train = synthetic({ lists: 60, m: 40, seed: "train" });
  const layers = train.layers.slice(0, -1);
  exits = fitWidths(train, layers, fitCompensation(train, layers), "document");
  scales = criticalScales(exits, pool.lists, pool.layers, K);
});

describe("order statistics", () => {
  it("have the indices of the tables", () => {
    expect([0.05, 0.02, 0.01].map((alpha) => pacIndex(1000, alpha, 0.05))).toEqual([962, 988, 996]);
    expect([0.05, 0.02, 0.01].map((alpha) => pacIndex(500, alpha, 0.05))).toEqual([484, 496, 499]);
    expect(pacIndex(300, 0.01, 0.05)).toBe(300);
    expect(pacIndex(100, 0.02, 0.05)).toBeUndefined();
    expect([0.05, 0.02, 0.01].map((alpha) => marginalIndex(1000, alpha))).toEqual([951, 981, 991]);
    expect([marginalIndex(9, 0.1), marginalIndex(8, 0.1), marginalIndex(99, 0.01), marginalIndex(98, 0.01)]).toEqual([
      9,
      undefined,
      99,
      undefined,
    ]);
    expect(
      [
        [0.05, 0.05],
        [0.01, 0.05],
        [0.01, 0.1],
        [0.002, 0.05],
      ].map(([a, d]) => queriesNeeded(a!, d!)),
    ).toEqual([59, 299, 230, 1497]);
  });

  it("are the smallest that work, by the definition", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 800 }),
        fc.double({ min: 0.005, max: 0.5, noNaN: true }),
        fc.double({ min: 0.005, max: 0.3, noNaN: true }),
        (n, alpha, delta) => {
          const j = pacIndex(n, alpha, delta);
          expect(j !== undefined).toBe(n >= queriesNeeded(alpha, delta));
          // Coverage of the j-th order statistic is Beta(j, n + 1 − j): P(coverage < 1 − α) is its distribution function.
          if (j !== undefined) {
            expect(regularizedBeta(1 - alpha, j, n + 1 - j)).toBeLessThanOrEqual(delta * (1 + 1e-9));
            if (j > 1) expect(regularizedBeta(1 - alpha, j - 1, n + 2 - j)).toBeGreaterThan(delta * (1 - 1e-9));
          }
          expect(marginalIndex(n, alpha) !== undefined).toBe(n >= queriesNeededMarginal(alpha));
        },
      ),
    );
  });
});

describe("the critical scale", () => {
  it("is what it was worked out to be", () => {
    // k = 1, top is d0 with estimate 0. ρ = gap / (c + c) = 3/2, 1/2. At k = 2 the top is d0, d1; d0's second rival is 1/2.
    const exit: ExitHead = { layer: 1, slope: 1, offset: 0, width: 1, trend: 0 };
    const list = handmade([
      [0, 9],
      [1, 8],
      [3, 7],
    ]);
    const ks = documentScales([exit], list, [1, 2], [1, 2, 3, 5]);
    expect([...ks.get(1)!]).toEqual([1.5]);
    expect([...ks.get(2)!]).toEqual([0.5, 0]);
    expect([...ks.get(3)!]).toEqual([0, 0, 0]);
    expect(ks.get(5)!.length).toBe(3);
  });

  it("is 0 for constant scores, duplicates of one document, and lists of at most k", () => {
    const exit: ExitHead = { layer: 1, slope: 1, offset: 0, width: 1, trend: 0 };
    const constant = handmade(Array.from({ length: 30 }, () => [1, 1]));
    const twins = handmade(Array.from({ length: 30 }, () => [0.3, 0.7]));
    const short = handmade([
      [1, 0],
      [0, 1],
    ]);
    expect([...criticalScales([exit], [constant, twins, short], [1, 2], K)]).toEqual([0, 0, 0]);
  });

  it("tells exactly when the replayed top k differs, up to rivals that stopped on the way", () => {
    let tight = 0;
    let failed = 0;
    pool.lists.slice(0, 150).forEach((list, q) => {
      const full = fullOrder(list, pool.layers);
      expect(isTopKExact(replay(topK(exits, scales[q]!), list, pool.layers), full, K)).toBe(true);
      if (scales[q]! === 0) return;
      failed++;
      if (!isTopKExact(replay(topK(exits, scales[q]! * 0.999), list, pool.layers), full, K)) tight++;
    });
    expect(tight / failed).toBeGreaterThan(0.7);
  });

  it("ignores documents whose scores are not finite", () => {
    const list = pool.lists[0]!;
    const broken = { ...list, scores: list.scores.slice() };
    for (let j = 0; j < pool.layers.length - 1; j++) broken.scores[j] = Number.NaN;
    const [scale] = criticalScales(exits, [broken], pool.layers, K);
    expect(Number.isFinite(scale)).toBe(true);
    const result = replay(topK(exits, scale!), broken, pool.layers);
    expect(isTopKExact(result, fullOrder(broken, pool.layers), K)).toBe(true);
    expect(result.exact[0]).toBe(1);
  });
});

/** Violation rate over resampled calibrations: draw n queries with replacement, calibrate, count the pool's failures. */
function resample(
  n: number,
  alpha: number,
  choose: (drawn: number[]) => number | undefined,
  reps = 1000,
): { violations: number; realised: number } {
  const random = new Random(`resample ${n} ${alpha}`);
  const sorted = Float64Array.from(scales).sort();
  let violations = 0;
  let realised = 0;
  for (let r = 0; r < reps; r++) {
    const scale =
      choose(Array.from({ length: n }, () => scales[random.integer(scales.length)]!)) ?? Number.POSITIVE_INFINITY;
    const above = sorted.length - sorted.findLastIndex((t) => t <= scale) - 1;
    realised += above / sorted.length / reps;
    if (above / sorted.length > alpha) violations++;
  }
  return { violations: violations / reps, realised };
}

describe("coverage", () => {
  const [n, alpha, delta] = [200, 0.1, 0.1] as const;
  const limit = delta + 3 * Math.sqrt((delta * (1 - delta)) / 1000);

  it("over 1,000 resampled calibrations violates α at most a share δ of the time, and wastes little", () => {
    const { violations, realised } = resample(n, alpha, (drawn) => scaleAt(drawn, alpha, delta));
    expect(violations).toBeLessThanOrEqual(limit);
    expect(realised).toBeGreaterThan(0.5 * alpha);
  });

  it("holds on average, and only on average, for the marginal guarantee", () => {
    const { violations, realised } = resample(n, alpha, (drawn) => scaleAt(drawn, alpha, undefined));
    // The mean coverage of the j-th order statistic is j / (n + 1).
    expect(realised).toBeLessThanOrEqual(alpha + 3 * Math.sqrt((alpha * (1 - alpha)) / n / 1000) + 1 / scales.length);
    expect(violations).toBeGreaterThan(limit);
  });

  it("exposes calibrators that are off", () => {
    const at = (drawn: number[], index: number): number => [...drawn].sort((a, b) => a - b)[index - 1]!;
    const mutants: Record<string, (drawn: number[]) => number | undefined> = {
      "one index too low": (drawn) => at(drawn, pacIndex(n, alpha, delta)! - 4),
      "floor for ceil in the quantile": (drawn) => at(drawn, Math.floor(n * (1 - alpha))),
      "δ forgotten": (drawn) => at(drawn, marginalIndex(n, alpha)!),
      // 40 documents a query counted as 40 independent scores: the index is right for 8,000 of them.
      "pooled pairs as i.i.d.": (drawn) => at(drawn, Math.ceil((pacIndex(n * 40, alpha, delta)! / (n * 40)) * n)),
      "the best of several calibrations": (drawn) =>
        Math.min(
          ...[0, 1, 2, 3].map(
            (part) => scaleAt(drawn.slice(part * 50, part * 50 + 50), alpha, delta) ?? Number.POSITIVE_INFINITY,
          ),
        ),
    };
    for (const [name, mutant] of Object.entries(mutants)) {
      expect(resample(n, alpha, mutant).violations, name).toBeGreaterThan(limit);
    }
    // A single index is within Monte Carlo noise of δ here; its exact violation probability is not.
    const j = pacIndex(n, alpha, delta)!;
    expect(regularizedBeta(1 - alpha, j, n + 1 - j)).toBeLessThanOrEqual(delta);
    expect(regularizedBeta(1 - alpha, j - 1, n + 2 - j)).toBeGreaterThan(delta);
  });

  it("exposes shapes chosen on the calibration queries", () => {
    // 400 candidate shapes that multiply each query's scale by noise of their own: chosen on CAL, the luckiest one wins.
    const random = new Random("reuse");
    const candidates = 400;
    const violations = (reuse: boolean): number => {
      let violated = 0;
      for (let r = 0; r < 100; r++) {
        let best = { scale: Number.POSITIVE_INFINITY, typical: 1 };
        for (let c = 0; c < (reuse ? candidates : 1); c++) {
          const drawn = Float64Array.from({ length: 60 }, () => Math.exp(random.normal()));
          const scale = scaleAt(drawn, alpha, delta)!;
          if (scale < best.scale) best = { scale, typical: 1 };
        }
        // All shapes are equally good: the true quantile of exp(N(0, 1)) at 90 % is e^1.2816.
        if (best.scale < Math.exp(1.2815515655)) violated++;
      }
      return violated / 100;
    };
    expect(violations(false)).toBeLessThanOrEqual(delta + 3 * Math.sqrt((delta * (1 - delta)) / 100));
    expect(violations(true)).toBeGreaterThan(0.5);
  });

  it("follows Beta(j, n + 1 − j) over splits", () => {
    // Continuous scores from a known distribution, so that the true coverage of each threshold is known exactly.
    const random = new Random("beta");
    const [size, reps] = [60, 2000];
    const j = pacIndex(size, alpha, delta)!;
    const coverages = Float64Array.from(
      { length: reps },
      () =>
        scaleAt(
          Float64Array.from({ length: size }, () => random.uniform()),
          alpha,
          delta,
        )!,
    ).sort();
    let distance = 0;
    coverages.forEach((coverage, i) => {
      const law = regularizedBeta(coverage, j, size + 1 - j);
      distance = Math.max(distance, Math.abs(law - i / reps), Math.abs(law - (i + 1) / reps));
    });
    // Kolmogorov–Smirnov at 0.1 %.
    expect(distance).toBeLessThan(1.95 / Math.sqrt(reps));
    const mean = coverages.reduce((sum, x) => sum + x, 0) / reps;
    const deviation = Math.sqrt((j * (size + 1 - j)) / ((size + 1) ** 2 * (size + 2)));
    expect(Math.abs(mean - j / (size + 1))).toBeLessThan((3 * deviation) / Math.sqrt(reps));
  });

  it("is a property of replayed rules, not only of critical scales", () => {
    const scale = scaleAt(scales.slice(0, 300), alpha, delta)!;
    const { exactTopK, recallTopK, computeFraction } = assess(
      { ...pool, lists: pool.lists.slice(300) },
      topK(exits, scale),
      K,
      cost,
    );
    expect(exactTopK).toBeGreaterThan(0.85);
    expect(recallTopK).toBeGreaterThan(0.97);
    expect(computeFraction).toBeLessThan(1);
  });
});

describe("risk control of graded losses", () => {
  const gains = (q: number): Float64Array => {
    const random = new Random(`gains ${q}`);
    return Float64Array.from({ length: K }, () => random.integer(4));
  };
  const weighted = (weights: (q: number) => Float64Array) =>
    pool.lists.map((list, q) => ({
      scales: documentScales(exits, list, pool.layers, [K]).get(K)!,
      weights: weights(q),
    }));
  const risk = (queries: ReturnType<typeof weighted>, scale: number): number =>
    queries.reduce(
      (sum, { scales: own, weights }) => sum + own.reduce((lost, t, r) => lost + (t > scale ? weights[r]! : 0), 0),
      0,
    ) / queries.length;

  it("chooses the smallest scale whose corrected risk is within ε", () => {
    const queries = weighted(() => recallWeights(K, K));
    for (const epsilon of [0.003, 0.01, 0.05]) {
      const scale = crcScale(queries, epsilon)!;
      const n = queries.length;
      expect((n * risk(queries, scale) + 1) / (n + 1)).toBeLessThanOrEqual(epsilon);
      expect((n * risk(queries, scale * (1 - 1e-6)) + 1) / (n + 1)).toBeGreaterThan(epsilon);
      expect(rcpsScale(queries, epsilon, 0.05) ?? Infinity).toBeGreaterThan(scale);
    }
    expect(crcScale(queries, 0.001)).toBeUndefined();
    expect(crcScale(queries, 1)).toBe(0);
    expect(crcScale([], 0.5)).toBeUndefined();
  });

  it("bounds the true loss of recall and of nDCG, query by query", () => {
    const recall = weighted(() => recallWeights(K, K));
    const ndcg = weighted((q) => ndcgWeights(gains(q), 12));
    const at = parseMeasure("nDCG@10");
    for (const scale of [0.3, 1, 2]) {
      pool.lists.slice(0, 100).forEach((list, q) => {
        const full = fullOrder(list, pool.layers);
        const { order } = replay(topK(exits, scale), list, pool.layers);
        const loss = (queries: typeof recall): number =>
          queries[q]!.scales.reduce((sum, t, r) => sum + (t > scale ? queries[q]!.weights[r]! : 0), 0);
        const top = new Set(full.slice(0, K));
        expect(1 - order.slice(0, K).filter((d) => top.has(d)).length / K).toBeLessThanOrEqual(loss(recall) + 1e-9);
        // Judgements: the gains above for full depth's top 10, and one unretrieved document that makes the ideal larger.
        const judged = new Map<string, number>([...full.slice(0, K)].map((d, r) => [`d${d}`, gains(q)[r]!]));
        const drop = (ranking: Uint32Array): number =>
          measure(
            at,
            Array.from(ranking, (d) => `d${d}`),
            judged,
          );
        const bound = ndcgWeights(gains(q), idealDcg(judged, K));
        const limit = ndcg[q]!.scales.reduce((sum, t, r) => sum + (t > scale ? bound[r]! : 0), 0);
        expect(drop(full) - drop(order)).toBeLessThanOrEqual(limit + 1e-9);
      });
    }
    expect(discountWeights(K, K).reduce((sum, w) => sum + w, 0)).toBeCloseTo(1, 12);
  });

  it("controls the expected loss over resampled calibrations", () => {
    const queries = weighted(() => recallWeights(K, K));
    const random = new Random("crc");
    const realised = Array.from({ length: 200 }, () =>
      risk(
        queries,
        crcScale(
          Array.from({ length: 100 }, () => queries[random.integer(queries.length)]!),
          0.03,
        )!,
      ),
    );
    const mean = realised.reduce((sum, x) => sum + x, 0) / realised.length;
    expect(mean).toBeLessThanOrEqual(0.03);
    expect(mean).toBeGreaterThan(0.015);
  });

  it("bounds the loss with confidence over resampled calibrations, and exposes what does not", () => {
    const queries = weighted(() => recallWeights(K, K));
    const [epsilon, delta, n] = [0.05, 0.1, 300] as const;
    type Queries = typeof queries;
    const violations = (choose: (own: Queries) => number | undefined): number => {
      const random = new Random("rcps");
      let violated = 0;
      for (let r = 0; r < 200; r++) {
        const scale = choose(Array.from({ length: n }, () => queries[random.integer(queries.length)]!));
        if (scale !== undefined && risk(queries, scale) > epsilon) violated++;
      }
      return violated / 200;
    };
    const bound = delta + 3 * Math.sqrt((delta * (1 - delta)) / 200);
    const held = violations((own) => rcpsScale(own, epsilon, delta));
    expect(held).toBeLessThanOrEqual(bound);
    const byMean = violations((own) => crcScale(own, (n * epsilon + 1) / (n + 1)));
    expect(byMean, "a mean loss of ε is enough").toBeGreaterThan(bound);
    const easiest = ({ scales: own }: Queries[number]) => own.reduce((most, scale) => Math.max(most, scale), 0);
    const sorted = violations((own) =>
      rcpsScale(
        [...own].sort((a, b) => easiest(a) - easiest(b)),
        epsilon,
        delta,
      ),
    );
    expect(sorted, "queries in the order of their scores").toBeGreaterThan(bound);
  });

  it("knows how few queries can bound it at all", () => {
    const lossless = (n: number) =>
      Array.from({ length: n }, () => ({ scales: new Float32Array(K), weights: recallWeights(K, K) }));
    for (const [epsilon, delta] of [
      [0.05, 0.05],
      [0.02, 0.05],
      [0.1, 0.01],
    ] as const) {
      const n = queriesNeededForRisk(epsilon, delta);
      expect(rcpsScale(lossless(n), epsilon, delta)).toBeDefined();
      expect(rcpsScale(lossless(n - 1), epsilon, delta)).toBeUndefined();
      // Betting needs hardly more than a count of failures does.
      expect(n).toBeLessThanOrEqual(1.1 * queriesNeeded(epsilon, delta));
    }
  });
});

describe("fitting", () => {
  it("recovers an affine distortion, whatever the queries' own offsets", () => {
    const random = new Random("affine");
    const lists = Array.from({ length: 30 }, (_, q) => {
      const offset = 3 * random.normal();
      return handmade(
        Array.from({ length: 20 }, () => {
          const s = random.normal() + offset;
          return [(s - 0.7) / 2.5, 5, s];
        }),
        `q${q}`,
      );
    });
    const [first, constant] = fitCompensation({ layers: [1, 2, 3], lists }, [1, 2]);
    expect(first!.slope).toBeCloseTo(2.5, 4);
    expect(first!.offset).toBeCloseTo(0.7, 4);
    expect(constant!.slope).toBe(0);
    expect(() => fitCompensation({ layers: [1, 2], lists: [handmade([[Number.NaN, 1]])] }, [1])).toThrow(
      /finite scores at layer 1/,
    );
  });

  it("gives positive widths, also to exits without error or variance", () => {
    const lists = [
      handmade([
        [1, 1, 1],
        [2, 1, 2],
        [3, 1, 3],
      ]),
    ];
    const heads = [
      { slope: 1, offset: 0 },
      { slope: 0, offset: 2 },
    ];
    for (const kind of ["layer", "document"] as const) {
      for (const { width, trend } of fitWidths({ layers: [1, 2, 3], lists }, [1, 2], heads, kind)) {
        expect(width).toBeGreaterThan(0);
        expect(trend).toBeGreaterThanOrEqual(0);
      }
    }
  });

  it("makes the list's spread a share of each width", () => {
    const train = synthetic({ lists: 60, m: 40, seed: "train" });
    const shared = withSpread(train, exits);
    const typical = typicalSpread(train, exits);
    expect(typical).toBeGreaterThan(0);
    shared.forEach(({ width, trend, spread }, j) => {
      expect(width).toBeCloseTo(0.55 * exits[j]!.width, 5);
      expect(trend).toBeCloseTo(0.55 * exits[j]!.trend, 5);
      if (exits[j]!.trend === 0) expect(spread! * typical).toBeCloseTo(0.45 * exits[j]!.width, 4);
    });
    expect(withSpread(train, exits.slice(0, 1))).toEqual(exits.slice(0, 1));
  });

  it("holds on lists unlike those of calibration more often with the list's spread than without", () => {
    const others = synthetic({ lists: 300, m: 40, seed: "others" });
    // The same queries, but early exits err twice as much in them.
    const noisier = {
      ...others,
      lists: others.lists.map((list) => ({
        ...list,
        scores: list.scores.map((s, i) => {
          const last = list.scores[i - (i % others.layers.length) + others.layers.length - 1]!;
          return last + 2 * (s - last);
        }),
      })),
    };
    const exact = (widths: "document" | "list"): number => {
      const made = calibrate(synthetic({ lists: 300, m: 40, seed: "whole" }), { ...options, widths });
      if (!made.feasible) throw new Error(made.reason);
      return assess(noisier, topK(made.certificate.widths, made.certificate.scale), K, cost).exactTopK;
    };
    expect(exact("list")).toBeGreaterThan(exact("document") + 0.1);
  });

  it("fits widths that cost less than equal ones, on queries it has not seen", () => {
    const flat = exits.map((exit) => ({ ...exit, width: 1, trend: 0 }));
    const compute = (heads: readonly ExitHead[]): number => {
      const scale = scaleAt(criticalScales(heads, pool.lists.slice(0, 300), pool.layers, K), 0.1, 0.1)!;
      return assess({ ...pool, lists: pool.lists.slice(300) }, topK(heads, scale), K, cost).computeFraction;
    };
    expect(compute(exits)).toBeLessThan(compute(flat) - 0.05);
  });
});

describe("the whole calibration", () => {
  it("keeps its promise on unseen queries and says what it was made of", () => {
    const result = calibrate(synthetic({ lists: 160, m: 40, seed: "whole" }), options);
    if (!result.feasible) throw new Error(result.reason);
    const { certificate, split } = result;
    expect(certificate).toMatchObject({
      kind: "exact-top-k",
      k: K,
      alpha: 0.1,
      delta: 0.1,
      n: split.cal.length,
      candidates: { min: 40, max: 40 },
    });
    expect(split.train.length + split.cal.length).toBe(160);
    // One calibration in ten may fall short; on the mean of several none of that is left.
    const exact = [1, 2, 3, 4].map((seed) => {
      const made = calibrate(synthetic({ lists: 160, m: 40, seed: `whole ${seed}` }), options);
      if (!made.feasible) throw new Error(made.reason);
      const { widths, scale, computeFraction } = made.certificate;
      const there = assess(pool, topK(widths, scale), K, cost);
      expect(there.computeFraction).toBeCloseTo(computeFraction, 1);
      return there.exactTopK;
    });
    expect(exact.reduce((a, b) => a + b) / exact.length).toBeGreaterThan(0.9);
    expect(calibrate(synthetic({ lists: 160, m: 40, seed: "whole" }), options)).toEqual(result);
  });

  it("makes of several promises from one pool what each would be alone", () => {
    const few = synthetic({ lists: 70, m: 30, seed: "shared" });
    // The last one needs a larger share of the queries for CAL, so a split and a fit of its own.
    const targets = [
      { k: K, alpha: 0.1, delta: 0.1 },
      { kind: "recall-top-k" as const, k: K, alpha: 0.1, delta: 0.1 },
      { k: 2 * K, alpha: 0.1, delta: 0.1 },
      { k: K, alpha: 0.05, delta: 0.05 },
    ];
    const together = targets.map(calibrator(few, options));
    expect(together).toEqual(targets.map((target) => calibrate(few, { ...options, ...target })));
    expect(together.every(({ feasible }) => feasible)).toBe(true);
    expect(together[3]!.split).not.toEqual(together[0]!.split);
  });

  it("promises recall for less, and keeps it on unseen queries", () => {
    const target = { ...options, alpha: 0.03, shape: exits };
    const made = [1, 2].map((seed) => {
      const fresh = synthetic({ lists: 120, m: 40, seed: `recall ${seed}` });
      const [exact, recall] = (["exact-top-k", "recall-top-k"] as const).map((kind) => {
        const result = calibrate(fresh, { ...target, kind });
        if (!result.feasible) throw new Error(result.reason);
        expect(result.certificate).toMatchObject({ kind, k: K, alpha: 0.03, delta: 0.1, n: 120 });
        return assess(pool, topK(result.certificate.widths, result.certificate.scale), K, cost);
      });
      expect(recall!.computeFraction).toBeLessThan(exact!.computeFraction);
      return recall!;
    });
    const mean = made.reduce((sum, { recallTopK }) => sum + recallTopK, 0) / made.length;
    expect(mean).toBeGreaterThan(0.97);
    expect(mean).toBeLessThan(0.999);
    const few = { ...pool, lists: pool.lists.slice(0, 50) };
    expect(calibrate(few, { ...target, kind: "recall-top-k" })).toMatchObject({
      feasible: false,
      needed: queriesNeededForRisk(0.03, 0.1),
    });
    const grouped = calibrate(
      { ...pool, lists: pool.lists.slice(0, 200) },
      {
        ...{ ...target, kind: "recall-top-k" },
        groupOf: ({ query }) => (Number(query.slice(1)) < 150 ? "many" : "few"),
      },
    );
    if (!grouped.feasible) throw new Error(grouped.reason);
    expect(grouped.certificate.groups).toEqual({
      many: { n: 150, scale: expect.any(Number) },
      few: { n: 50, scale: null },
    });
  });

  it("fits on a quarter of the queries, fewer where there are many or the guarantee needs them", () => {
    const fits = (lists: number, alpha: number) =>
      calibrate(synthetic({ lists, m: 12, seed: "shares" }), { ...options, alpha }).split.train.length;
    expect(fits(80, 0.1)).toBe(20);
    expect(fits(400, 0.1)).toBe(50);
    expect(fits(50, 0.05)).toBe(5);
  });

  it("uses every query where the shape is given", () => {
    const result = calibrate(pool, { ...options, shape: exits });
    if (!result.feasible) throw new Error(result.reason);
    expect(result.certificate).toMatchObject({ n: 600, widths: exits, scale: scaleAt(scales, 0.1, 0.1) });
  });

  it("says how many queries it lacks", () => {
    const few = { ...pool, lists: pool.lists.slice(0, 30) };
    expect(calibrate(few, { ...options, alpha: 0.05, delta: 0.05, shape: exits })).toMatchObject({
      feasible: false,
      n: 30,
      needed: 59,
      reason: expect.stringMatching(
        /needs at least 59 distinct calibration queries, there are 30: add about 29 queries/,
      ),
    });
    const unshaped = calibrate(few, { ...options, alpha: 0.01, delta: 0.05 });
    expect(unshaped).toMatchObject({ feasible: false, needed: 299 });
    expect(calibrate({ ...pool, lists: [] }, options)).toMatchObject({ feasible: false, n: 0 });
  });

  it("does not count near-duplicates of a query as evidence", () => {
    const twins = {
      ...pool,
      lists: pool.lists.slice(0, 200).map((list, i) => ({
        ...list,
        text: `what is the capital of country ${Math.floor(i / 4)}${"xyz".repeat(Math.floor(i / 4))}${"?".repeat(i % 4)}`,
      })),
    };
    expect(calibrate(twins, { ...options, alpha: 0.05, delta: 0.05, shape: exits })).toMatchObject({
      feasible: false,
      reason: expect.stringMatching(/near-duplicates/),
    });
  });

  it("handles constant scores, NaN scores and lists shorter than k", () => {
    const make = (rows: (q: number) => number[][]): TrajectorySet => ({
      layers: [1, 2, 3],
      lists: Array.from({ length: 80 }, (_, q) => handmade(rows(q), `q${q}`)),
    });
    const run = (set: TrajectorySet) =>
      calibrate(set, { ...options, k: 2, alpha: 0.1, delta: 0.1, cost: { ...cost, layers: 3 } });
    const constant = run(make(() => Array.from({ length: 6 }, () => [1, 1, 1])));
    expect(constant).toMatchObject({ feasible: true, certificate: { scale: 0, computeFraction: 1 } });
    const short = run(make(() => [[1, 2, 3]]));
    expect(short).toMatchObject({
      feasible: true,
      certificate: { scale: 0, computeFraction: 1, candidates: { min: 1, max: 1 } },
    });
    const broken = run(
      make((q) => Array.from({ length: 6 }, (_, d) => [d === q % 6 ? Number.NaN : d, d * 2 + (q % 3), d])),
    );
    expect(broken).toMatchObject({ feasible: true });
    expect(() => run(make(() => [[Number.NaN, Number.NaN, Number.NaN]]))).toThrow(/finite scores at layer 1/);
  });

  it("refuses targets that mean nothing", () => {
    for (const [bad, message] of [
      [{ k: 0 }, /Expected k as a whole number/],
      [{ k: 2.5 }, /Expected k/],
      [{ k: 2000 }, /Expected k/],
      [{ alpha: 0 }, /Expected alpha between 0 and 1/],
      [{ alpha: 1 }, /alpha/],
      [{ delta: 1.5 }, /Expected delta/],
      [{ exits: [3] }, /out of the layers/],
    ] as const) {
      expect(() => calibrate(pool, { ...options, ...bad }), JSON.stringify(bad)).toThrow(message);
    }
  });
});

describe("splits", () => {
  const queries = Array.from({ length: 500 }, (_, i) => ({
    query: `q${i}`,
    text: `query number ${i} about ${"abcdefghij"[i % 10]!.repeat(5 + (i % 7))} ${i * 7919}`,
  }));
  it("cover all queries once, by seed, whatever their order", () => {
    const split = splitQueries(queries, 1);
    const all = [...split.train, ...split.cal];
    expect(new Set(all).size).toBe(500 - split.duplicates);
    expect(splitQueries([...queries].reverse(), 1)).toEqual(split);
    expect(splitQueries(queries, 2)).not.toEqual(split);
    expect(split.cal.length).toBeGreaterThan(250);
    expect(() => splitQueries(queries, 1, { train: 0.5, cal: 0.6 })).toThrow(/add up to 1/);
  });

  it("keep near-duplicates on one side, and one of them in CAL", () => {
    const twins = queries.flatMap(({ query, text }) => [
      { query, text },
      { query: `${query}-twin`, text: `${text.toUpperCase()} ?!` },
    ]);
    const split = splitQueries(twins, 3);
    const original = (query: string): string => query.replace("-twin", "");
    const cal = new Set(split.cal.map(original));
    expect(split.train.map(original).filter((query) => cal.has(query))).toEqual([]);
    expect(new Set(split.cal.map(original)).size).toBe(split.cal.length);
  });

  it("see through case, punctuation, width and small edits, but not through different words", () => {
    expect(normalize("  What’s  ＡＢＣ-1? ")).toBe("what s abc 1");
    const texts = [
      "how long does it take to boil an egg",
      "How long does it take to boil an egg?",
      "how long does it take to boil eggs",
      "who wrote the origin of species",
      undefined,
      undefined,
      "",
      "",
    ];
    expect(nearDuplicates(texts)).toEqual([[0, 1, 2], [3], [4], [5], [6, 7]]);
  });
});

describe("groups", () => {
  it("get their own scale from their own queries, or none", () => {
    const groups = Array.from(scales, (_, i) => (i % 3 === 0 ? "a" : i < 590 ? "b" : "rare"));
    const table = groupScales([...scales], groups, (own) => scaleAt(own, 0.05, 0.05));
    expect(table.get("a")).toEqual({
      n: 200,
      scale: scaleAt(
        scales.filter((_, i) => groups[i] === "a"),
        0.05,
        0.05,
      ),
    });
    expect(table.get("rare")).toMatchObject({ scale: undefined });
    expect([...table.values()].reduce((sum, { n }) => sum + n, 0)).toBe(600);
  });
});

describe("budgets", () => {
  let first: TrajectorySet;
  let points: FrontierPoint[];
  beforeAll(() => {
    first = { ...pool, lists: pool.lists.slice(0, 150) };
    points = frontier(first, exits, K, cost, 0.1);
  });
  const rule = (stake: number) => ({ type: "budget", k: K, stake, exits }) as const;

  it("are met on other queries by the stake that met them in calibration", () => {
    const rest = { ...pool, lists: pool.lists.slice(150) };
    for (const budget of [0.9, 0.7, 0.5]) {
      const { stake } = spend(points, budget);
      expect(Math.abs(assess(rest, rule(stake), K, cost).computeFraction - budget)).toBeLessThan(0.03);
    }
  });

  it("cost less and lose more the larger the stake, from full depth on", () => {
    expect(points[0]).toEqual({ stake: 0, compute: 1, loss: 0 });
    points.slice(1).forEach((point, i) => {
      expect(point.compute).toBeLessThan(points[i]!.compute + 1e-3);
      expect(point.loss).toBeGreaterThan(points[i]!.loss - 1e-3);
    });
    expect(assess(first, rule(0), K, cost).computeFraction).toBe(1);
  });

  it("bound what they lose, and keep the bound on other queries", () => {
    const rest = pool.lists.slice(150);
    for (const allowed of [0.03, 0.06, 0.15]) {
      const point = lose(points, allowed)!;
      expect(point.loss).toBeLessThan(point.bound!);
      expect(point.bound).toBeLessThanOrEqual(allowed);
      const lost = rest.map((list) => lossOf("ndcg", rule(point.stake), list, pool.layers, K));
      expect(lost.reduce((a, b) => a + b) / rest.length).toBeLessThanOrEqual(allowed);
    }
    expect(lose(points, 0.03)!.compute).toBeGreaterThan(lose(points, 0.15)!.compute);
    expect(lose(points, 0.001)).toBeUndefined();
    expect(frontier({ ...first, lists: first.lists.slice(0, 5) }, exits, K, cost, null)[1]).not.toHaveProperty("bound");
  });

  it("go no further than the first stake that is not bounded", () => {
    const point = (stake: number, bound?: number) => ({ stake, compute: 0.5, loss: 0, ...(bound && { bound }) });
    const dip = [point(0), point(0.1, 0.02), point(0.2, 0.04), point(0.3, 0.02)];
    expect(lose(dip, 0.03)).toEqual(dip[1]);
    expect(lose(dip, 0.05)).toEqual(dip[3]);
    expect(lose([...dip].reverse(), 0.03)).toEqual(dip[1]);
    expect(lose([point(0), point(0.1)], 0.5)).toBeUndefined();
  });

  it("buy the smallest stake that is cheap enough, and say what it lost at most", () => {
    const line = [
      { stake: 0, compute: 1, loss: 0 },
      { stake: 0.1, compute: 0.6, loss: 0.01 },
      { stake: 0.3, compute: 0.2, loss: 0.05 },
    ];
    expect(spend(line, 1)).toMatchObject({ stake: 0, loss: 0 });
    expect(spend(line, 0.8)).toEqual({ stake: expect.closeTo(0.05, 10), loss: 0.01 });
    expect(spend(line, 0.3)).toEqual({ stake: expect.closeTo(0.25, 10), loss: 0.05 });
    expect(() => spend(line, 0.1)).toThrow(/Expected a budget of at least 0\.200 of full depth, got 0\.1/);
  });
});
