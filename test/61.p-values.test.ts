/**
 * p-values are exact where they can be checked exactly, and valid where only simulation can tell. Wrong variants of
 * each method are in here too: the same checks must reject them.
 */
import { describe, expect, it } from "vitest";
import { assess, sameTopK } from "../lib/certify/assess.js";
import { calibratePath, fixedSequence, paretoPath } from "../lib/certify/ltt.js";
import { confidenceGrid, layerPath, tunedPath } from "../lib/certify/paths.js";
import { bettingPValue, binomialPValue, logBinomialCdf, meanBound } from "../lib/certify/pvalues.js";
import { Random } from "../lib/eval/random.js";
import { logGamma } from "../lib/eval/special.js";
import { handmade, synthetic } from "./synthetic.js";

describe("golden values", () => {
  it("of the binomial p-value", () => {
    const table = [
      [0, 59, 0.05, 4.849453e-2],
      [0, 299, 0.01, 4.953626e-2],
      [2, 150, 0.05, 1.815406e-2],
      [5, 1000, 0.01, 6.613951e-2],
      [20, 500, 0.05, 1.788507e-1],
    ] as const;
    for (const [k, n, epsilon, p] of table) expect(binomialPValue(k, n, epsilon) / p).toBeCloseTo(1, 6);
  });

  it("survive where (1 − p)^n underflows", () => {
    // scipy.stats.binom.logcdf(0, 20000, .05), and the median region of the same distribution.
    expect(logBinomialCdf(0, 20_000, 0.05)).toBeCloseTo(20_000 * Math.log(0.95), 8);
    expect(binomialPValue(1000, 20_000, 0.05)).toBeCloseTo(0.5081, 3);
    expect(binomialPValue(20_000, 20_000, 0.05)).toBe(1);
    expect(binomialPValue(-1, 10, 0.05)).toBe(0);
  });
});

/** P(Bin(n, p) = k). */
function binomialPmf(k: number, n: number, p: number): number {
  const choose = logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
  return Math.exp(choose + k * Math.log(p) + (n - k) * Math.log1p(-p));
}

/** P(p ≤ δ) at risk exactly ε, for 0/1 losses: no randomness, every outcome weighted by its probability. */
function typeOne(n: number, epsilon: number, delta: number, pValue: (failures: number) => number): number {
  let probability = 0;
  for (let k = 0; k <= n; k++) if (pValue(k) <= delta) probability += binomialPmf(k, n, epsilon);
  return probability;
}

describe("the exact type-I error", () => {
  it("is at most δ, and what theory says it is", () => {
    const table = [
      [50, 0.1, 0.1, 0.0338],
      [100, 0.05, 0.1, 0.0371],
      [200, 0.05, 0.05, 0.0264],
      [1000, 0.01, 0.1, 0.0661],
    ] as const;
    for (const [n, epsilon, delta, binomial] of table) {
      const exact = typeOne(n, epsilon, delta, (k) => binomialPValue(k, n, epsilon));
      expect(exact).toBeLessThanOrEqual(delta);
      expect(exact).toBeCloseTo(binomial, 3);
    }
  });

  it("exposes wrong p-values", () => {
    const [n, epsilon, delta] = [199, 0.05, 0.05] as const;
    expect(
      typeOne(n, epsilon, delta, (k) => (k / n <= epsilon ? 0 : 1)),
      "an observed risk below ε is enough",
    ).toBeGreaterThan(0.4);
    expect(
      typeOne(n, epsilon, delta, (k) => binomialPValue(k - 1, n, epsilon)),
      "off by one",
    ).toBeGreaterThan(delta);
    expect(
      typeOne(n, epsilon, delta, (k) => Math.exp(-2 * n * n * Math.max(0, epsilon - k / n) ** 2)),
      "Hoeffding's exponent with n twice",
    ).toBeGreaterThan(delta);
  });
});

describe("the betting p-value", () => {
  // Nine queries in ten unchanged, the tenth moves by ±0.15 or so: nDCG drops as they are.
  const drops = (random: Random, n: number, mean: number): Float64Array =>
    Float64Array.from({ length: n }, () => mean + (random.uniform() < 0.9 ? 0 : 0.15 * random.normal()));
  const rejections = (n: number, mean: number, epsilon: number, reps: number): number => {
    const random = new Random(`betting ${n} ${mean}`);
    let rejected = 0;
    for (let r = 0; r < reps; r++) if (bettingPValue(drops(random, n, mean), epsilon, 0.05) <= 0.05) rejected++;
    return rejected / reps;
  };

  it("holds its level for signed losses at the boundary", () => {
    expect(rejections(500, 0.01, 0.01, 2000)).toBeLessThanOrEqual(0.05 + 3 * Math.sqrt((0.05 * 0.95) / 2000));
  });

  it("has the power to certify a mean drop of 1 % from 1,000 queries", () => {
    expect(rejections(1000, 0, 0.01, 200)).toBeGreaterThan(0.95);
    expect(rejections(1000, 0.005, 0.01, 200)).toBeGreaterThan(0.5);
  });

  it("is 1 without evidence and falls with more of it", () => {
    expect(bettingPValue([], 0.05)).toBe(1);
    expect(bettingPValue([1, 1, 1], 0.05)).toBe(1);
    expect(bettingPValue(new Float64Array(200), 0.05)).toBeLessThan(bettingPValue(new Float64Array(100), 0.05));
  });
});

describe("the bound of a mean", () => {
  // Nine losses in ten are zero, the tenth anything up to 0.4: a mean of 0.02.
  const losses = (random: Random, n: number) =>
    Float64Array.from({ length: n }, () => (random.uniform() < 0.9 ? 0 : 0.4 * random.uniform()));
  const misses = (bound: (losses: Float64Array) => number): number => {
    const random = new Random("mean bound");
    let missed = 0;
    for (let r = 0; r < 500; r++) if (bound(losses(random, 200)) < 0.02) missed++;
    return missed / 500;
  };

  it("is below the mean with probability at most δ, and near it with enough losses", () => {
    expect(misses((each) => meanBound(each, 0.1))).toBeLessThanOrEqual(0.1 + 3 * Math.sqrt((0.1 * 0.9) / 500));
    expect(
      misses((each) => each.reduce((a, b) => a + b) / each.length),
      "the mean itself",
    ).toBeGreaterThan(0.4);
    expect(
      misses((each) => meanBound([...each].sort(), 0.1)),
      "losses in their own order",
    ).toBeGreaterThan(0.2);
    const many = meanBound(losses(new Random("many"), 5000), 0.05);
    expect(many).toBeGreaterThan(0.02);
    expect(many).toBeLessThan(0.026);
  });

  it("needs losses to say anything, and a few hundred to say much", () => {
    expect(meanBound([], 0.05)).toBe(1);
    expect(meanBound(new Float64Array(61), 0.05)).toBeLessThan(0.051);
    expect(meanBound(new Float64Array(317), 0.05)).toBeLessThan(0.0101);
    expect(meanBound([1, 1, 1, 1], 0.05)).toBe(1);
  });
});

describe("fixed-sequence testing", () => {
  const RISKS = [0.005, 0.01, 0.02, 0.03, 0.04, 0.051, 0.06, 0.075, 0.09, 0.12];
  const [epsilon, delta, n, reps] = [0.05, 0.1, 500, 2000] as const;
  /** P(an unsafe configuration is chosen), over simulated calibrations with nested losses 1[U < R_j]. */
  const violations = (choose: (pValues: number[], risks: number[]) => number): number => {
    const random = new Random("fixed sequence");
    let violated = 0;
    for (let r = 0; r < reps; r++) {
      const failures = RISKS.map(() => 0);
      for (let i = 0; i < n; i++) {
        const u = random.uniform();
        RISKS.forEach((risk, j) => {
          if (u < risk) failures[j]!++;
        });
      }
      const certified = choose(
        failures.map((k) => binomialPValue(k, n, epsilon)),
        failures.map((k) => k / n),
      );
      if (certified > 0 && RISKS[certified - 1]! > epsilon) violated++;
    }
    return violated / reps;
  };
  const bound = delta + 3 * Math.sqrt((delta * (1 - delta)) / reps);

  it("certifies an unsafe configuration with probability at most δ", () => {
    const rate = violations((p) => fixedSequence(p, delta));
    expect(rate).toBeLessThanOrEqual(bound);
    expect(rate).toBeLessThan(0.1);
  });

  it("exposes the first failing threshold taken for the last passing one, and thresholds taken by their mean", () => {
    expect(violations((p) => Math.min(p.length, fixedSequence(p, delta) + 1))).toBeGreaterThan(bound);
    expect(violations((_, risks) => risks.filter((risk) => risk <= epsilon).length)).toBeGreaterThan(bound);
  });

  it("exposes a path ordered by the calibration data themselves", () => {
    // Many equally unsafe configurations with independent losses: looking at CAL to order them finds a lucky one.
    const random = new Random("ordered by cal");
    const run = (order: (p: number[]) => number[]): number => {
      let violated = 0;
      for (let r = 0; r < 500; r++) {
        const p = Array.from({ length: 30 }, () => {
          let failures = 0;
          for (let i = 0; i < 300; i++) if (random.uniform() < 0.055) failures++;
          return binomialPValue(failures, 300, epsilon);
        });
        if (fixedSequence(order(p), delta) > 0) violated++;
      }
      return violated / 500;
    };
    expect(run((p) => p)).toBeLessThanOrEqual(delta);
    expect(run((p) => [...p].sort((a, b) => a - b))).toBeGreaterThan(0.3);
  });

  it("stops at the first failure, whatever comes after it", () => {
    expect(fixedSequence([], 0.1)).toBe(0);
    expect(fixedSequence([0.2, 0.01], 0.1)).toBe(0);
    expect(fixedSequence([0.1, 0.05, 0.2, 0.01], 0.1)).toBe(2);
  });

  it("orders what no other configuration beats from the safest to the cheapest", () => {
    const points = [
      { risk: 0.1, cost: 0.3 },
      { risk: 0, cost: 1 },
      { risk: 0.05, cost: 0.6 },
      { risk: 0.06, cost: 0.7 },
      { risk: 0.05, cost: 0.65 },
      { risk: 0.2, cost: 0.3 },
    ];
    expect(paretoPath(points)).toEqual([1, 2, 0]);
  });

  it("certifies any rule along a path, up to the last that passes", () => {
    // 200 lists: the layer-2 ranking agrees with full depth in all of them, the layer-1 ranking in 180.
    const lists = Array.from({ length: 200 }, (_, q) =>
      handmade(
        q < 180
          ? [
              [2, 2, 2],
              [1, 1, 1],
            ]
          : [
              [1, 2, 2],
              [2, 1, 1],
            ],
        `q${q}`,
      ),
    );
    const cal = { layers: [1, 2, 3], lists };
    const path = [
      { type: "layer", layer: 2 },
      { type: "layer", layer: 1 },
    ] as const;
    const promise = { k: 1, alpha: 0.05, delta: 0.05 };
    expect(calibratePath(path, cal, promise)).toEqual({ rule: path[0], certified: 1, failures: [0, 20], n: 200 });
    expect(calibratePath(path, cal, { ...promise, alpha: 0.15 }).rule).toEqual(path[1]);
    expect(calibratePath([path[1]], cal, promise)).toEqual({ rule: undefined, certified: 0, failures: [20], n: 200 });
    expect(() => calibratePath(path, { layers: [1, 2, 3], lists: [] }, promise)).toThrow(
      /calibration queries, got none/,
    );
  });

  it("has paths from the safest to the cheapest configuration, ordered on other queries", () => {
    const set = synthetic({ lists: 40, m: 20, seed: "paths" });
    const cost = { layers: 12, hidden: 384, intermediate: 1536 };
    const heads = [4, 8].map((layer) => ({ layer, slope: 2, offset: 0 }));
    for (const over of ["pair", "list"] as const) {
      const path = tunedPath(confidenceGrid(heads, over, 5, true), set, 5, cost);
      const seen = path.map((rule) => assess(set, rule, 5, cost).computeFraction);
      expect(seen.length).toBeGreaterThan(1);
      expect(seen).toEqual([...seen].sort((a, b) => b - a));
      expect(sameTopK(path[0]!, set.lists[0]!, set.layers, 5)).toBe(true);
    }
    expect(layerPath([2, 4, 12])).toEqual([
      { type: "layer", layer: 4 },
      { type: "layer", layer: 2 },
    ]);
  });
});
