/**
 * The same promises on trajectories of a real model over real questions (fixtures/trajectories, no text in them).
 */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { assess, fullOrder, isTopKExact } from "../lib/certify/assess.js";
import { fitShape } from "../lib/certify/calibrate.js";
import { scaleAt } from "../lib/certify/groups.js";
import { marginalIndex } from "../lib/certify/order-statistic.js";
import { Random } from "../lib/eval/random.js";
import { replay } from "../lib/exit/replay.js";
import type { TopKRule } from "../lib/exit/rule.js";
import type { TrajectorySet } from "../lib/exit/trajectory.js";
import { TrajectoryStore } from "../lib/exit/trajectory-store.js";
import { criticalScales } from "./critical-scales.js";

const LAYERS = Array.from({ length: 12 }, (_, i) => i + 1);
const K = 5;
const cost = { layers: 12, hidden: 384, intermediate: 1536 };

function stored(name: string): TrajectorySet {
  const store = TrajectoryStore.open(join(import.meta.dirname, "fixtures", "trajectories", `${name}.jsonl`), LAYERS, {
    model: "bge-small-matryoshka-baseline",
    dtype: "f32",
    maxLength: 256,
    candidates: 100,
    madeBy: "PyTorch 2.13, float32, one thread",
  });
  store.close();
  return store.set();
}

describe("real trajectories", () => {
  const hotpot = stored("hotpotqa-small");
  const musique = stored("musique-small");
  const [alpha, delta, reps] = [0.1, 0.1, 1000] as const;
  const exits = fitShape(hotpot, {});
  // The population: 100 questions of another data set than the one that made the shape.
  const scales = criticalScales(exits, musique.lists, LAYERS, K);
  const rule = (scale: number): TopKRule => ({ type: "top-k", k: K, scale, exits });
  const wrong = new Map<number, number>();
  /** Share of the population whose replayed top k is not full depth's. */
  const risk = (scale: number): number => {
    let known = wrong.get(scale);
    if (known === undefined) {
      const exact = (list: (typeof musique.lists)[number]): boolean =>
        isTopKExact(replay(rule(scale), list, LAYERS), fullOrder(list, LAYERS), K);
      known = musique.lists.filter((list) => !exact(list)).length / musique.lists.length;
      wrong.set(scale, known);
    }
    return known;
  };
  const violations = (choose: (drawn: number[]) => number | undefined): number => {
    const random = new Random("real");
    let violated = 0;
    for (let r = 0; r < reps; r++) {
      const drawn = Array.from({ length: 80 }, () => scales[random.integer(scales.length)]!);
      const scale = choose(drawn);
      if (scale !== undefined && risk(scale) > alpha) violated++;
    }
    return violated / reps;
  };

  it("keep the promise over 1,000 resampled calibrations, judged by replay", () => {
    expect(violations((drawn) => scaleAt(drawn, alpha, delta))).toBeLessThanOrEqual(
      delta + 3 * Math.sqrt((delta * (1 - delta)) / reps),
    );
  });

  it("expose a calibrator without δ", () => {
    const at = (drawn: number[]): number => drawn.sort((a, b) => a - b)[marginalIndex(drawn.length, alpha)! - 1]!;
    expect(violations(at)).toBeGreaterThan(delta + 3 * Math.sqrt((delta * (1 - delta)) / reps));
  });

  it("keep every top k at its own critical scale", () => {
    musique.lists.forEach((list, q) => {
      expect(isTopKExact(replay(rule(scales[q]!), list, LAYERS), fullOrder(list, LAYERS), K)).toBe(true);
    });
  });

  it("cost less than full depth at the certified scale", () => {
    const { computeFraction, exactTopK, exitHistogram } = assess(
      musique,
      rule(scaleAt(scales, alpha, delta)!),
      K,
      cost,
    );
    expect(computeFraction).toBeLessThan(0.9);
    expect(exactTopK).toBeGreaterThanOrEqual(0.9);
    expect(Object.values(exitHistogram).reduce((sum, count) => sum + count, 0)).toBe(2000);
  });
});
