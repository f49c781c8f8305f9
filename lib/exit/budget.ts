/**
 * The budget rule: a document stops once scoring it deeper is not expected to improve the ranking by much.
 */
import { expTerms } from "./exp.js";
import type { BudgetRule, Stops } from "./rule.js";
import { intervals } from "./top-k.js";
import { type ExitColumn, ranked } from "./trajectory.js";

/**
 * Half-widths are mean sizes of residuals (certify/widths.ts), and those of a list's first documents a fifth to a third larger
 * than the others'. The difference of two logistic residuals of mean sizes c and c' is about logistic with the scale
 * 0.51 (c + c').
 */
const SCALE = 0.625;

/** Discount of nDCG@k by rank from 0, [k] float32: 1 / log2(rank + 2). Behind rank k it is 0. */
export function discounts(k: number): Float32Array {
  return Float32Array.from({ length: k }, (_, rank) => 1 / Math.log2(rank + 2));
}

/**
 * Decides for one list of m documents; `columns` are of each of the rule's exits, `finals` [m] full depth's scores. At every
 * exit, whoever still runs and has less than `stake` at stake stops there.
 */
export function budget(rule: BudgetRule, columns: readonly ExitColumn[], finals: Float32Array, m: number): Stops {
  const exit = new Int8Array(m).fill(-1);
  const { estimates, widths } = intervals(rule.exits, columns, m);
  const standings = new Standings(m);
  const discount = discounts(rule.k);
  let alive = Uint32Array.from({ length: m }, (_, d) => d);
  for (let j = 0; j < rule.exits.length && alive.length > 0; j++) {
    standings.move(alive, estimates[j]!, estimates[j - 1], widths[j]!);
    const stakes = atStake(standings, alive, discount);
    alive = alive.filter((d, i) => {
      if (!(stakes[i]! < rule.stake)) return true;
      exit[d] = j;
      return false;
    });
  }
  standings.move(alive, finals, estimates.at(-1));
  return { exit, estimate: standings.estimates() };
}

/**
 * What a pass that went by a budget says of full depth's scores, [m] float32: `estimates` are of each of its exits, [m] each,
 * `stopped` the layer at which each document did, and `finals` what it scored there.
 */
export function settled(
  exits: readonly { readonly layer: number }[],
  estimates: readonly Float32Array[],
  stopped: ArrayLike<number>,
  finals: Float32Array,
): Float32Array {
  const standings = new Standings(stopped.length);
  const documents = Uint32Array.from({ length: stopped.length }, (_, d) => d);
  let before: Float32Array | undefined;
  exits.forEach(({ layer }, j) => {
    const alive = documents.filter((d) => stopped[d]! >= layer);
    standings.move(alive, estimates[j]!, before);
    if (alive.length > 0) before = estimates[j];
  });
  const between = documents.filter((d) => exits.every(({ layer }) => layer !== stopped[d]));
  standings.move(between, finals, before);
  return standings.estimates();
}

/**
 * Where each document of a list stood when it was last scored, relative to the list's level. The level is the sum, over the
 * exits so far, of the mean change of the documents still running: between two exits a list's scores move together, and a
 * document that has stopped must not fall behind for that. In double, added in the order of the documents; changes that
 * are not finite do not count.
 */
export class Standings {
  /** [m] estimate less the level at its exit; NaN where it is not finite. */
  readonly place: Float64Array;
  /** [m] half-width per unit of scale there; ∞ where it is not finite. */
  readonly width: Float64Array;
  level = 0;

  constructor(m: number) {
    this.place = new Float64Array(m).fill(Number.NaN);
    this.width = new Float64Array(m);
  }

  /** The documents `alive` are scored again: `now` and `before` are estimates, [m], there being none before the first; `width` where decisions follow. */
  move(alive: Uint32Array, now: Float32Array, before: Float32Array | undefined, width?: Float32Array): void {
    let sum = 0;
    let count = 0;
    for (const d of before ? alive : []) {
      const change = Math.fround(now[d]! - before![d]!);
      if (!Number.isFinite(change)) continue;
      sum += change;
      count++;
    }
    if (count > 0) this.level += sum / count;
    for (const d of alive) {
      this.place[d] = Number.isFinite(now[d]) ? now[d]! - this.level : Number.NaN;
      if (width) this.width[d] = Number.isFinite(width[d]) ? width[d]! : Number.POSITIVE_INFINITY;
    }
  }

  /** [m] float32 estimates of full depth's scores. */
  estimates(): Float32Array {
    return Float32Array.from(this.place, (place) => place + this.level);
  }
}

/**
 * By how much each of the documents `alive` is expected to improve DCG@k by being scored to the end, the others staying where
 * they are: [alive.length], of gains that sum to 1 over the list; ∞ or NaN where nobody may stop.
 *
 * A document that moves past document j changes places with it, and DCG by the step between two ranks times their difference in
 * gain, which is gain_j for every unit by which it is beyond it (times ln 2, which is left out). A residual that is logistic with
 * scale s takes it beyond a distance d by E[(x − d)⁺] = s · ln(1 + e^(−d / s)): the "expected improvement" of Bayesian
 * optimisation (Močkus 1975). So near ties are worth settling where a rank more or less counts, and surely out or in is not.
 */
export function atStake(
  { place, width }: Pick<Standings, "place" | "width">,
  alive: Uint32Array,
  discount: Float32Array,
): Float64Array {
  const gain = gains(place);
  const order = ranked(place);
  const rank = new Uint32Array(place.length);
  order.forEach((d, r) => {
    rank[d] = r;
  });
  // Nobody crosses a rank behind the first that does not count. In the list's order, in which the engine adds.
  const passed = order
    .slice(0, discount.length + 1)
    .sort()
    .filter((j) => Number.isFinite(place[j]!));
  const discountAt = (r: number) => discount[r] ?? 0;
  return Float64Array.from(alive, (i) => {
    if (!Number.isFinite(place[i]!) || !Number.isFinite(width[i]!)) return Number.POSITIVE_INFINITY;
    let sum = 0;
    for (const j of passed) {
      if (j === i) continue;
      const upper = rank[i]! > rank[j]! ? rank[j]! : rank[j]! - 1;
      const step = discountAt(upper) - discountAt(upper + 1);
      if (step > 0) sum += step * gain[j]! * overshoot(Math.abs(place[i]! - place[j]!), width[i]! + width[j]!);
    }
    return sum;
  });
}

/**
 * Half-widths' `sum`, scaled, times about ln(1 + e^(−x)), x being the distance over that scale: 1 / (e^x + 0.443) is within 1 % of
 * it, and e^x is (1 + x / 32)^32, which is made of single operations and falls off a little more slowly.
 */
function overshoot(distance: number, sum: number): number {
  const scale = SCALE * sum;
  let odds = 1 + distance / scale / 32;
  for (let i = 0; i < 5; i++) odds *= odds;
  return scale / (odds + 0.443);
}

/** [m] shares of the list's gain, which doubles with every unit of score; 0 for a place that is not finite. */
export function gains(place: Float64Array): Float64Array {
  const { terms, sum } = expTerms(place, Math.LN2);
  return terms.map((each) => each / sum);
}
