/**
 * Exit rules as words on the command line.
 */
import type { Exit } from "../types.js";
import { UsageError } from "./command.js";

/** Of `--exit`, for the commands' help. */
export const EXIT_HELP = `full; layer:8 (everybody stops there); top-k:10 or top-k:10:0.05 (k, α: the model's
                     certificate); budget:0.5 (mean share of full compute); confidence:4=0.9,8=0.95
                     (thresholds by layer) or confidence-list:…`;

const number = (word: string | undefined) =>
  word !== undefined && /^\d+(\.\d+)?$/.test(word) ? Number(word) : undefined;

function thresholds(words: string | undefined): Record<number, number> | undefined {
  const pairs = words?.split(",").map((pair) => pair.split("=")) ?? [];
  const entries = pairs.map(([layer, threshold]) => [number(layer), number(threshold)] as const);
  return entries.length > 0 && entries.every((entry) => !entry.includes(undefined))
    ? (Object.fromEntries(entries) as Record<number, number>)
    : undefined;
}

/** Reads the words; whether the model can do it is for the reranker to say. Throws UsageError. */
export function parseExit(words: string): Exit {
  const [type, first, second, ...rest] = words.split(":");
  const [a, b] = [number(first), number(second)];
  const layers = thresholds(first);
  if (rest.length === 0) {
    if (type === "full" && first === undefined) return { type };
    if (type === "layer" && a !== undefined && second === undefined) return { type, layer: a };
    if (type === "top-k" && first === undefined) return { type };
    if (type === "top-k" && a !== undefined && (second === undefined || b !== undefined))
      return { type, k: a, ...(b !== undefined && { alpha: b }) };
    if (type === "budget" && a !== undefined && (second === undefined || b !== undefined))
      return { type, compute: a, ...(b !== undefined && { k: b }) };
    if (type === "confidence" && layers && second === undefined) return { type, thresholds: layers };
    if (type === "confidence-list" && layers && second === undefined)
      return { type: "confidence", over: "list", thresholds: layers };
  }
  throw new UsageError(`--exit needs one of ${EXIT_HELP.replace(/\s+/g, " ")}; got ${JSON.stringify(words)}`);
}
