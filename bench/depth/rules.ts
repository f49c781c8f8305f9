/**
 * The exit rules that bench:depth compares, each at several settings: a line of the picture.
 */
import type { Exit } from "../../dist/index.js";

/** Results that `top-k` and `budget` keep, and that are compared with full depth's. */
export const K = 10;

/** Where confidence may stop a document: the first layers of the bundled model say little. */
const FIRST_SURE = 4;

export interface RuleLine {
  readonly name: string;
  readonly settings: readonly (readonly [label: string, exit: Exit])[];
}

type Over = "pair" | "list";

function confidence(layers: readonly number[], over: Over, threshold: number): Exit {
  const sure = layers.filter((layer) => layer >= FIRST_SURE && layer < layers.at(-1)!);
  return { type: "confidence", over, thresholds: Object.fromEntries(sure.map((layer) => [layer, threshold])) };
}

/** Thresholds of 1 stop nobody, but every exit is peeked at: what the machinery alone costs. */
export const nobodyStops = (layers: readonly number[]): Exit => confidence(layers, "pair", 1);

export function ruleLines(layers: readonly number[]): RuleLine[] {
  const sure = (over: Over, thresholds: readonly number[]) => ({
    name: `confidence, ${over}`,
    settings: thresholds.map((each) => [`> ${each}`, confidence(layers, over, each)] as const),
  });
  return [
    { name: "layer", settings: layers.map((layer) => [String(layer), { type: "layer", layer }]) },
    {
      name: "top-k, certified",
      settings: [0.1, 0.05, 0.01].map((alpha) => [`α = ${alpha}`, { type: "top-k", k: K, alpha }]),
    },
    {
      name: "budget",
      settings: [0.3, 0.4, 0.5, 0.6, 0.7, 0.8].map((compute) => [String(compute), { type: "budget", k: K, compute }]),
    },
    sure("pair", [0.8, 0.9, 0.95, 0.98, 0.995]),
    sure("list", [0.2, 0.4, 0.6, 0.8]),
  ];
}
