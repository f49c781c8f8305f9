/**
 * From trajectories to a certificate: split, fit, shape, calibrate. No model runs here and no label is read.
 */
import { MatryoshkaError } from "../errors.js";
import type { CostShape } from "../exit/cost.js";
import type { ExitHead } from "../exit/rule.js";
import { subset, type Trajectory, type TrajectorySet } from "../exit/trajectory.js";
import { assess } from "./assess.js";
import type { Certificate, Fingerprint } from "./certificate.js";
import { fitCompensation } from "./compensation.js";
import { recallWeights, type WeightedScales } from "./crc.js";
import { documentScales } from "./critical-scale.js";
import { type FrontierPoint, frontier } from "./frontier.js";
import { groupScales } from "./groups.js";
import { queriesFor, scaleFor } from "./promise.js";
import { DEFAULT_SHARES, type Split, splitQueries } from "./split.js";
import { fitWidths, type WidthKind, withSpread } from "./widths.js";

/**
 * Queries that TRAIN takes at most. More do not make the fit any better: with the bundled model 20, 40, 80 and 160 lists of
 * 100 candidates give the same compute within what the draw moves it by, and 20, 40 and 60 lists of 10 do.
 */
const MOST_TRAIN = 50;

/** What is to be promised. */
export interface Target {
  /** What is promised about the first k. Defaults to `"exact-top-k"`. */
  readonly kind?: Certificate["kind"];
  readonly k: number;
  readonly alpha: number;
  /** Defaults to 0.05. Null asks for the guarantee that holds on average over calibrations, which needs fewer queries. */
  readonly delta?: number | null;
}

/** What all targets of one pool of queries share. */
export interface PoolOptions {
  readonly fingerprint: Fingerprint;
  readonly cost: CostShape;
  /** Goes into the certificate: names of data sets, runs, dates. */
  readonly createdFrom: string;
  /** Exit layers to consider. Defaults to all before full depth. */
  readonly exits?: readonly number[];
  /**
   * "layer": one width an exit. "document": per-document widths. Defaults to "list": a share of each width is a multiple of
   * the list's spread too, so that it holds on lists unlike those of calibration more often.
   */
  readonly widths?: WidthKind;
  /** Defaults to 1. */
  readonly seed?: number | string;
  /**
   * Heads and widths from elsewhere, frozen before these queries were seen: then all queries calibrate, and none is
   * needed to fit.
   */
  readonly shape?: readonly ExitHead[];
  /** Group of each list, for a guarantee within each. */
  readonly groupOf?: (list: Trajectory) => string;
}

export type CalibrateOptions = Target & PoolOptions;

export type Calibration =
  | {
      readonly feasible: true;
      readonly certificate: Certificate;
      readonly split: Split;
    }
  | {
      readonly feasible: false;
      readonly split: Split;
      readonly n: number;
      readonly needed: number;
      readonly reason: string;
    };

/** Calibrates one promise: see `calibrator`. */
export function calibrate(set: TrajectorySet, options: CalibrateOptions): Calibration {
  return calibrator(set, options)(options);
}

/**
 * Calibrates promises, one a call; what they share (the split, the fit, each k's frontier) is computed once. k, α and δ must be
 * fixed before looking at any result: whoever makes several certificates from the same queries and wants all of them to hold
 * at once passes each a δ divided by their number. Throws `ERR_INVALID_ARGUMENT` for bad options; too few queries, or scores
 * that admit no finite scale, are a result.
 */
export function calibrator(set: TrajectorySet, options: PoolOptions): (target: Target) => Calibration {
  const pools = new Map<number, Pool>();
  return ({ kind = "exact-top-k", k, alpha, delta = 0.05 }) => {
    checkTarget(k, alpha, delta);
    const needed = queriesFor(kind, alpha, delta);
    const share = options.shape ? 1 : calibrationShare(set, needed);
    const { split, cal, exits, scalesOf, frontierOf } = remember(pools, share, () => prepare(set, share, options));
    const n = cal.lists.length;
    if (n < needed) return infeasible(split, n, needed, set.lists.length, options.shape !== undefined);

    const queries = scalesOf(k);
    const choose = (own: readonly WeightedScales[]) => scaleFor(kind, own, alpha, delta);
    const scale = choose(queries);
    if (scale === undefined) {
      return {
        feasible: false,
        split,
        n,
        needed,
        reason: "No finite scale keeps the top k of enough calibration queries.",
      };
    }
    const { fingerprint, cost, createdFrom, groupOf } = options;
    const sizes = cal.lists.map(({ documents }) => documents.length).sort((a, b) => a - b);
    const certificate: Certificate = {
      kind,
      k,
      alpha,
      delta,
      scale,
      widths: exits(),
      n,
      ...fingerprint,
      candidates: { min: sizes[0]!, max: sizes.at(-1)! },
      ...(groupOf && { groups: groupTable(queries, cal.lists.map(groupOf), choose) }),
      createdFrom,
      computeFraction: assess(cal, { type: "top-k", k, scale, exits: exits() }, k, cost).computeFraction,
      frontier: frontierOf(k, delta),
    };
    return { feasible: true, certificate, split };
  };
}

/** One split of the pool, and what is fitted and measured on it, each when first asked for. */
interface Pool {
  readonly split: Split;
  readonly cal: TrajectorySet;
  readonly exits: () => readonly ExitHead[];
  readonly scalesOf: (k: number) => readonly WeightedScales[];
  readonly frontierOf: (k: number, delta: number | null) => FrontierPoint[];
}

function prepare(set: TrajectorySet, share: number, options: PoolOptions): Pool {
  const split = splitQueries(set.lists, options.seed ?? 1, { train: 1 - share, cal: share });
  const cal = subset(set, split.cal);
  let fitted = options.shape;
  const exits = () => (fitted ??= fitShape(subset(set, split.train), options));
  const known = new Map<number, readonly WeightedScales[]>();
  const frontiers = new Map<string, FrontierPoint[]>();
  const weighted = (list: Trajectory, k: number): WeightedScales => {
    const scales = documentScales(exits(), list, cal.layers, [k]).get(k)!;
    return { scales, weights: recallWeights(scales.length, k) };
  };
  return {
    split,
    cal,
    exits,
    scalesOf: (k) => remember(known, k, () => cal.lists.map((list) => weighted(list, k))),
    frontierOf: (k, delta) =>
      remember(frontiers, `${k} ${delta}`, () => frontier(cal, exits(), k, options.cost, delta)),
  };
}

/**
 * Estimates and widths. Nothing is searched: choosing exits and widths by what they cost on some tens of queries fits those
 * queries, and cost more on others than these plain fits (.02 to .03 of compute with two models).
 */
export function fitShape(
  train: TrajectorySet,
  { exits, widths = "list" }: Pick<CalibrateOptions, "exits" | "widths">,
): ExitHead[] {
  const layers = exits ?? train.layers.slice(0, -1);
  const heads = fitCompensation(train, layers);
  if (widths !== "list") return fitWidths(train, layers, heads, widths);
  return withSpread(train, fitWidths(train, layers, heads, "document"));
}

/** Throws `ERR_INVALID_ARGUMENT` for what no calibration could promise. */
export function checkTarget(k: number, alpha: number, delta: number | null): void {
  const bad = (what: string, expected: string, came: unknown): MatryoshkaError =>
    new MatryoshkaError("ERR_INVALID_ARGUMENT", `Expected ${what} ${expected}, got ${came}`);
  if (!Number.isInteger(k) || k < 1 || k > 1024) throw bad("k", "as a whole number from 1 to 1024", k);
  if (!(alpha > 0 && alpha < 1)) throw bad("alpha", "between 0 and 1", alpha);
  if (delta !== null && !(delta > 0 && delta < 1)) throw bad("delta", "between 0 and 1", delta);
}

/**
 * CAL's share: all but what TRAIN can use, or up to 90 % of few queries where they would otherwise not suffice for the
 * guarantee.
 */
function calibrationShare({ lists }: TrajectorySet, needed: number): number {
  const queries = Math.max(1, lists.length);
  const spare = 1 - MOST_TRAIN / queries;
  return Math.max(DEFAULT_SHARES.cal, spare, Math.min(0.9, (needed * 1.1) / queries));
}

function remember<K, V>(known: Map<K, V>, key: K, compute: () => V): V {
  if (!known.has(key)) known.set(key, compute());
  return known.get(key)!;
}

function infeasible(split: Split, n: number, needed: number, total: number, allCalibrate: boolean): Calibration {
  const missing = needed - n;
  const more = allCalibrate ? missing : Math.max(missing, Math.ceil((needed * total) / Math.max(1, n)) - total);
  return {
    feasible: false,
    split,
    n,
    needed,
    reason:
      `This target needs at least ${needed} distinct calibration queries, there are ${n}` +
      `${split.duplicates > 0 ? ` (and ${split.duplicates} near-duplicates of them, which add no evidence)` : ""}: ` +
      `add about ${more} queries, or ask for a larger alpha or delta.`,
  };
}

function groupTable(
  queries: readonly WeightedScales[],
  groups: readonly string[],
  choose: (own: readonly WeightedScales[]) => number | undefined,
): NonNullable<Certificate["groups"]> {
  const table = groupScales(queries, groups, choose);
  return Object.fromEntries([...table].map(([group, { n, scale }]) => [group, { n, scale: scale ?? null }]));
}
