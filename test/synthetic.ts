/**
 * Synthetic trajectories: lists of documents with true scores s, and exits that see them through noise which shrinks
 * with depth, has heavy tails (Student t, 5 degrees) and an offset that all documents of a query share.
 */
import { Random } from "../lib/eval/random.js";
import { replay } from "../lib/exit/replay.js";
import type { ExitHead, Rule } from "../lib/exit/rule.js";
import type { Trajectory, TrajectorySet } from "../lib/exit/trajectory.js";

export interface SyntheticOptions {
  readonly lists: number;
  readonly m?: number;
  readonly layers?: readonly number[];
  readonly seed?: number | string;
  /** Noise at the first exit; it falls linearly to a tenth at the last. Defaults to 1.1. */
  readonly noise?: number;
}

export function synthetic(options: SyntheticOptions): TrajectorySet {
  const { lists, m = 100, layers = [2, 4, 6, 8, 10, 12], seed = 1, noise = 1.1 } = options;
  const random = new Random(`synthetic ${seed}`);
  return { layers, lists: Array.from({ length: lists }, (_, q) => list(random, `q${q}`, m, layers.length, noise)) };
}

function list(random: Random, query: string, m: number, exits: number, noise: number): Trajectory {
  const scores = new Float32Array(m * exits);
  const offsets = Array.from({ length: exits }, () => random.normal());
  for (let d = 0; d < m; d++) {
    const s = 2 * random.normal();
    const difficulty = Math.exp(0.4 * random.normal());
    for (let j = 0; j < exits - 1; j++) {
      const deviation = noise * (1 - (0.9 * j) / (exits - 1)) * difficulty;
      scores[d * exits + j] = 0.5 * (s + offsets[j]! + deviation * studentT(random));
    }
    scores[d * exits + exits - 1] = s;
  }
  return {
    query,
    documents: Array.from({ length: m }, (_, d) => `d${d}`),
    tokens: Int32Array.from({ length: m }, () => 20 + random.integer(200)),
    firstStage: Float32Array.from({ length: m }, (_, d) => scores[d * exits + exits - 1]! + 2 * random.normal()),
    scores,
  };
}

/** Student's t with 5 degrees of freedom, scaled to deviation 1. */
function studentT(random: Random): number {
  let squares = 0;
  for (let i = 0; i < 5; i++) squares += random.normal() ** 2;
  return (random.normal() / Math.sqrt(squares / 5)) * Math.sqrt(3 / 5);
}

/** A list from rows of scores, one row a document. */
export function handmade(rows: readonly (readonly number[])[], query = "q"): Trajectory {
  return {
    query,
    documents: rows.map((_, d) => `d${d}`),
    tokens: new Int32Array(rows.length).fill(64),
    scores: Float32Array.from(rows.flat()),
  };
}

/** An exit that takes its own score for full depth's. */
export const head = (layer: number, width = 1, trend = 0): ExitHead => ({ layer, slope: 1, offset: 0, width, trend });

/** [m] the layer at which a rule stops each document. */
export const stopped = (rule: Rule, list: Trajectory, layers: readonly number[]): number[] => [
  ...replay(rule, list, layers).exitLayers,
];
