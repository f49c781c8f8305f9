/**
 * The budget rule, replayed over stored trajectories: who stops, where those who stopped end up, and why it pays.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { atStake, discounts, gains, settled } from "../lib/exit/budget.js";
import { replay } from "../lib/exit/replay.js";
import type { BudgetRule, ExitHead } from "../lib/exit/rule.js";
import { column, ranked, type Trajectory } from "../lib/exit/trajectory.js";
import { handmade, head, stopped, synthetic } from "./synthetic.js";

const budget = (k: number, stake: number, ...exits: ExitHead[]): BudgetRule => ({ type: "budget", k, stake, exits });

describe("the budget rule", () => {
  it("lets go who is surely in as well as who is surely out, and goes on with whom it is unsure of", () => {
    const list = handmade([
      [9, 9],
      [3.2, 3],
      [3, 3.1],
      [-9, -9],
      [Number.NaN, 0],
    ]);
    expect(stopped(budget(2, 1e-3, head(1, 0.5)), list, [1, 2])).toEqual([1, 2, 2, 1, 2]);
    expect(stopped(budget(1, 1e-3, head(1, 0.5)), list, [1, 2])).toEqual([1, 1, 1, 1, 2]);
    expect(stopped(budget(1, 1e-3, head(1, 4)), list, [1, 2])).toEqual([2, 2, 2, 2, 2]);
  });

  it("goes by where the list's documents stand, not by its level", () => {
    fc.assert(
      fc.property(fc.integer({ min: -50, max: 50 }), (shift) => {
        const rows = synthetic({ lists: 1, m: 30, layers: [1, 2, 3], seed: shift }).lists[0]!;
        const moved = { ...rows, scores: rows.scores.map((s, i) => (i % 3 === 1 ? s + shift : s)) };
        const rule = budget(5, 1e-3, head(1, 0.3), head(2, 0.2));
        // Rounding of float32 aside, which may decide otherwise for one that is at the edge.
        const differ = stopped(rule, rows, [1, 2, 3]).filter(
          (layer, d) => layer !== stopped(rule, moved, [1, 2, 3])[d],
        );
        expect(differ.length).toBeLessThanOrEqual(1);
      }),
      { numRuns: 50 },
    );
  });

  it("moves those who stopped on with the mean of those still running, and never scores them anew", () => {
    const list = handmade([
      [0, 100, 100],
      [6, -2, -1],
      [6.5, -1.5, -2.5],
    ]);
    const { order, scores, exact, exitLayers } = replay(budget(1, 1e-3, head(1, 0.5), head(2, 1e-3)), list, [1, 2, 3]);
    expect([...exitLayers]).toEqual([1, 2, 2]);
    expect([...scores]).toEqual([-8, -2, -1.5]);
    expect([...order]).toEqual([2, 1, 0]);
    expect([...exact]).toEqual([0, 0, 0]);
    const deeper = replay(budget(1, 1e-3, head(1, 0.5), head(2, 0.5)), list, [1, 2, 3]);
    expect([...deeper.exitLayers]).toEqual([1, 3, 3]);
    expect([...deeper.scores]).toEqual([-8, -1, -2.5]);
    expect([...deeper.order]).toEqual([1, 2, 0]);
  });

  it("stops nobody where nothing is at stake, and everybody with a finite estimate where anything is allowed", () => {
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 6 }), (list, k) => {
        const exits = [head(1, 0.5), head(2, 0.5, 0.5)];
        expect(stopped(budget(k, 0, ...exits), list, [1, 2, 3])).toEqual(list.documents.map(() => 3));
        const all = stopped(budget(k, Number.MAX_VALUE, ...exits), list, [1, 2, 3]);
        all.forEach((layer, d) => {
          if (Number.isFinite(list.scores[3 * d]!)) expect(layer).toBe(1);
        });
      }),
    );
  });

  it("agrees with a plain reading of its definition", () => {
    const stake = fc.float({ min: Math.fround(1e-4), max: Math.fround(0.05), noNaN: true });
    let some = 0;
    fc.assert(
      fc.property(lists, fc.integer({ min: 1, max: 6 }), stake, fc.boolean(), (list, k, stake, spread) => {
        const exits = [head(1, 0.4), head(2, 0.2, 0.5)].map((each) => (spread ? { ...each, spread: 0.1 } : each));
        const rule = budget(k, stake, ...exits);
        const found = stopped(rule, list, [1, 2, 3]);
        expect(found).toEqual(plain(rule, list));
        some += found.filter((layer) => layer < 3).length;
      }),
      { numRuns: 1000 },
    );
    expect(some).toBeGreaterThan(500);
  });

  it("is read from a pass as from a replay, wherever a deadline ended it", () => {
    fc.assert(
      fc.property(lists, fc.double({ min: 0, max: 0.02, noNaN: true }), (list, stake) => {
        const exits = [head(1, 0.3), head(2, 0.2)];
        const { exitLayers, scores } = replay(budget(3, stake, ...exits), list, [1, 2, 3]);
        const estimates = [0, 1].map((exit) => column(list, 3, exit));
        const said = settled(exits, estimates, exitLayers, column(list, 3, 2));
        exitLayers.forEach((layer, d) => {
          if (layer < 3) expect(said[d]).toBe(scores[d]);
        });
        // Nobody got beyond layer 2: whoever ran until then stands where it was scored.
        const cut = exitLayers.map((layer) => Math.min(layer, 2));
        const early = settled(exits, estimates, cut, column(list, 3, 1));
        cut.forEach((layer, d) => {
          if (layer === 2 && Number.isFinite(estimates[1]![d]!)) expect(early[d]).toBeCloseTo(estimates[1]![d]!, 4);
        });
      }),
      { numRuns: 300 },
    );
  });

  it("keeps full depth's ranking better, for the same compute, than stopping everybody at one layer", () => {
    const layers = [2, 4, 6, 8, 10, 12];
    const set = synthetic({ lists: 60, m: 40, layers, noise: 0.5 });
    const exits = layers
      .slice(0, -1)
      .map((layer, j) => ({ layer, slope: 2, offset: 0, width: 0.4 * (1 - 0.18 * j), trend: 0 }));
    const kept = (rule: Parameters<typeof replay>[0]) => {
      let [depth, overlap] = [0, 0];
      for (const list of set.lists) {
        const { exitLayers, order } = replay(rule, list, layers);
        const top = new Set(ranked(column(list, 6, 5)).slice(0, 5));
        depth += exitLayers.reduce((a, b) => a + b, 0) / exitLayers.length / set.lists.length;
        overlap += order.slice(0, 5).filter((d) => top.has(d)).length / 5 / set.lists.length;
      }
      return { depth, overlap };
    };
    const layer = kept({ type: "layer", layer: 8 });
    const spent = kept(budget(5, 1e-3, ...exits));
    expect(spent.depth).toBeLessThan(layer.depth);
    expect(spent.overlap).toBeGreaterThan(layer.overlap);
  });
});

describe("what is at stake", () => {
  /** s · ln(1 + e^(−d / s)). */
  const overshoot = (distance: number, sum: number) => 0.625 * sum * Math.log1p(Math.exp(-distance / (0.625 * sum)));
  const step = (rank: number) => 1 / Math.log2(rank + 2) - 1 / Math.log2(rank + 3);

  it("is nothing for a list of one, and an expected improvement for one that may pass another", () => {
    const width = Float64Array.of(1, 0.5);
    expect([...atStake({ place: Float64Array.of(3), width }, Uint32Array.of(0), discounts(1))]).toEqual([0]);
    const [ahead, behind] = atStake({ place: Float64Array.of(1, 0), width }, Uint32Array.of(0, 1), discounts(2));
    expect(ahead! / (step(0) * (1 / 3) * overshoot(1, 1.5))).toBeCloseTo(1, 1);
    expect(behind! / (step(0) * (2 / 3) * overshoot(1, 1.5))).toBeCloseTo(1, 1);
  });

  it("has its largest step between rank k and the first that does not count", () => {
    const place = Float64Array.of(0, 0, 0, 0, 0, 0, 0, 0);
    const width = place.map(() => 1);
    const stakes = atStake({ place, width }, Uint32Array.of(0, 1, 2, 3, 4, 5, 6, 7), discounts(4));
    // Whoever is surely in may fall behind the fifth; whoever is out may come to be the fourth: all may pass it.
    const cliff = 1 / Math.log2(5);
    for (const each of stakes) expect(each).toBeGreaterThan(0.99 * cliff * (1 / 8) * overshoot(0, 2));
  });

  it("grows with half-widths and shrinks with distance from the first k", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.1, max: 3, noNaN: true }),
        fc.double({ min: 1.1, max: 4, noNaN: true }),
        (w, f) => {
          const place = Float64Array.of(4, 3, 1, 0, -2, -5);
          const of = (width: number) =>
            atStake({ place, width: place.map(() => width) }, Uint32Array.of(0, 1, 2, 3, 4, 5), discounts(2));
          const [narrow, wide] = [of(w), of(w * f)];
          for (const [d, stake] of narrow.entries()) expect(stake).toBeLessThan(wide[d]!);
          for (const d of [3, 4, 5]) expect(narrow[d]).toBeLessThan(narrow[d - 1]!);
        },
      ),
    );
  });

  it("takes gains as shares that double with every unit of score, whatever the scores' level", () => {
    const shares = gains(Float64Array.of(0, 1, Number.NaN, 2));
    expect([...shares].map((share) => share * 7)).toEqual([1, 2, 0, 4].map((each) => expect.closeTo(each, 12)));
  });
});

/** Two exits and full depth; few distinct values make ties, and some are no numbers. */
const lists = fc
  .array(
    fc.array(
      fc.oneof(
        { weight: 8, arbitrary: fc.float({ min: -6, max: 6, noNaN: true }) },
        { weight: 3, arbitrary: fc.integer({ min: -2, max: 2 }) },
        { weight: 1, arbitrary: fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY) },
      ),
      { minLength: 3, maxLength: 3 },
    ),
    { maxLength: 12 },
  )
  .map((rows) => handmade(rows));

/** The definition, document by document, for layers 1, 2 and 3, with slope 1 and offset 0. */
function plain({ k, stake, exits }: BudgetRule, list: Trajectory): number[] {
  const f = Math.fround;
  const documents = list.documents.map((_, d) => d);
  const s = (d: number, exit: number) => list.scores[3 * d + exit]!;
  const measured = exits.some(({ spread = 0 }) => spread > 0);
  const parted = documents.map((d) => f(s(d, 1) - s(d, 0))).filter(Number.isFinite);
  const g = parted.length > 0 ? f(Math.max(...parted) - Math.min(...parted)) : 0;
  const exit = documents.map(() => 3);
  const place = documents.map(() => Number.NaN);
  const width = documents.map(() => 0);
  let level = 0;
  exits.forEach(({ width: constant, trend, spread = 0 }, j) => {
    const running = documents.filter((d) => exit[d] === 3);
    const change = (d: number) => (j > 0 ? f(s(d, j) - s(d, j - 1)) : 0);
    const changes = running.map(change).filter(Number.isFinite);
    if (changes.length > 0) level += changes.reduce((a, b) => a + b, 0) / changes.length;
    for (const d of running) {
      place[d] = s(d, j) - level;
      width[d] = f(f(f(constant) + f(f(trend) * Math.abs(change(d)))) + f(f(spread) * f(measured && j > 0 ? g : 0)));
      if ((measured && j === 0) || !Number.isFinite(width[d])) width[d] = Number.POSITIVE_INFINITY;
    }
    const fine = documents.filter((d) => Number.isFinite(place[d]));
    const order = [...fine].sort((a, b) => place[b]! - place[a]! || a - b);
    const discount = (rank: number) => (rank < k ? f(1 / Math.log2(rank + 2)) : 0);
    const total = fine.reduce((sum, d) => sum + 2 ** (place[d]! - place[order[0]!]!), 0);
    const gain = (d: number) => 2 ** (place[d]! - place[order[0]!]!) / total;
    const out = running.filter((i) => {
      if (!Number.isFinite(place[i]!) || !Number.isFinite(width[i]!)) return false;
      let sum = 0;
      // The ladder of the others: whoever is on rung r of it has r of them before it.
      const ladder = order.filter((d) => d !== i);
      ladder.forEach((d, rung) => {
        const step = discount(rung) - discount(rung + 1);
        const scale = 0.625 * (width[i]! + width[d]!);
        const odds = (1 + Math.abs(place[i]! - place[d]!) / scale / 32) ** 32;
        if (step > 0) sum += (step * gain(d) * scale) / (odds + 0.443);
      });
      return sum < stake;
    });
    for (const d of out) exit[d] = j + 1;
  });
  return exit;
}
