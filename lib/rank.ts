/**
 * Sorts scored documents and words them as results.
 */
import type { Collector } from "./collector.js";
import type { ResolvedRerank } from "./options.js";
import type { Document, RerankResult } from "./types.js";

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Descending, NaN last: a total order whatever the numbers. */
function descending(a: number, b: number): number {
  if (a === b) return 0;
  if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1;
  return Number.isNaN(b) || a > b ? -1 : 1;
}

/** Sorted by raw logit, since large ones all have the sigmoid 1. Array.sort is stable, so ties keep their order. */
export function rank<D extends Document>(
  documents: readonly D[],
  collector: Collector,
  { topN, activation, layers, returnDocuments }: ResolvedRerank,
  fullDepth: number,
): RerankResult<D>[] {
  const logits = documents.map((_, i) => collector.logit(i, collector.stopped[i]!));
  const order = [...documents.keys()].sort((a, b) => descending(logits[a]!, logits[b]!));
  return order.slice(0, topN).map((index) => {
    const logit = logits[index]!;
    const exitLayer = collector.stopped[index]!;
    return {
      index,
      score: activation === "sigmoid" ? sigmoid(logit) : logit,
      logit,
      exitLayer,
      exact: exitLayer === fullDepth,
      ...(layers.length > 0 && {
        logits: Object.fromEntries(layers.map((layer) => [layer, collector.logit(index, layer)])),
      }),
      ...(returnDocuments && { document: documents[index]! }),
    };
  });
}
