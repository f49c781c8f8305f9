/**
 * Exit rules as words on the command line.
 */
import type { Exit } from "../types.js";
import { UsageError } from "./command.js";

/** Of `--exit`, for the commands' help. */
export const EXIT_HELP = `full; layer:8 (everybody stops there); top-k:10 or top-k:10:0.05 (k, α: the model's
                     certificate); recall-top-k:10:0.05 (α of the first 10 may be lost); budget:0.5 (mean share of
                     full compute) or budget-loss:0.02 (mean drop of nDCG), either with :10 (k);
                     confidence:4=0.9,8=0.95 (thresholds by layer) or confidence-list:…, either with :0.2
                     (also whom the first stage settled: difficulty below 0.2) or :0.2:10 (at its rank 10)`;

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
  const [type, first, second, third, ...rest] = words.split(":");
  const [a, b, c] = [number(first), number(second), number(third)];
  const layers = thresholds(first);
  if (rest.length === 0 && (type === "confidence" || type === "confidence-list") && layers) {
    const whole = (second === undefined || b !== undefined) && (third === undefined || c !== undefined);
    const difficulty = b !== undefined && { difficulty: { below: b, ...(c !== undefined && { k: c }) } };
    const over = type === "confidence-list" && ({ over: "list" } as const);
    if (whole) return { type: "confidence", thresholds: layers, ...over, ...difficulty };
  }
  if (third === undefined) {
    if (type === "full" && first === undefined) return { type };
    if (type === "layer" && a !== undefined && second === undefined) return { type, layer: a };
    if (type === "top-k" || type === "recall-top-k") {
      const exit: Exit = { type: "top-k", ...(type === "recall-top-k" && { promise: "recall" }) };
      if (first === undefined) return exit;
      if (a !== undefined && (second === undefined || b !== undefined))
        return { ...exit, k: a, ...(b !== undefined && { alpha: b }) };
    }
    if ((type === "budget" || type === "budget-loss") && a !== undefined && (second === undefined || b !== undefined))
      return {
        type: "budget",
        ...(type === "budget" ? { compute: a } : { loss: a }),
        ...(b !== undefined && { k: b }),
      };
  }
  throw new UsageError(`--exit needs one of ${EXIT_HELP.replace(/\s+/g, " ")}; got ${JSON.stringify(words)}`);
}
