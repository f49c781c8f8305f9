/**
 * Sorts scored documents and words them as results.
 */
import type { Collector } from "./collector.js";
import { settled } from "./exit/budget.js";
import { estimate } from "./exit/estimate.js";
import type { Compensation, Rule } from "./exit/rule.js";
import type { ResolvedRerank } from "./options.js";
import type { Document, RerankResult } from "./types.js";

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Descending, NaN last: a total order whatever the numbers. */
function descending(a: number, b: number): number {
  if (a === b) return 0;
  if (Number.isNaN(a)) return Number.isNaN(b) ? 0 : 1;
  return Number.isNaN(b) || a > b ? -1 : 1;
}

/** [n] what each document's score where it stopped says of the final one: full depth's own, or the rule's estimate. */
function finalLogits(rule: Rule, collector: Collector): Float32Array {
  const { stopped } = collector;
  const own = Float32Array.from(stopped, (layer, d) => collector.logit(d, layer));
  if (!("exits" in rule)) return own;
  const exits: readonly (Compensation & { readonly layer: number })[] = rule.exits;
  const estimates = exits.map((head) =>
    Float32Array.from(stopped, (_, d) => estimate(head, collector.estimate(d, head.layer))),
  );
  const said = rule.type === "budget" ? settled(exits, estimates, stopped, own) : undefined;
  return own.map((logit, d) => {
    const exit = exits.findIndex(({ layer }) => layer === stopped[d]);
    return exit < 0 ? logit : (said ?? estimates[exit]!)[d]!;
  });
}

/**
 * Sorted by logit, since large ones all have the sigmoid 1. Array.sort is stable, so ties keep their order.
 * Under a top-k rule whoever stopped is out, so it comes after all exact ones.
 */
export function rank<D extends Document>(
  documents: readonly D[],
  collector: Collector,
  { topN, activation, layers, returnDocuments }: ResolvedRerank,
  rule: Rule,
  fullDepth: number,
): RerankResult<D>[] {
  const { stopped } = collector;
  const logits = finalLogits(rule, collector);
  const late = (i: number) => (rule.type === "top-k" && stopped[i] !== fullDepth ? 1 : 0);
  const order = [...documents.keys()].sort((a, b) => late(a) - late(b) || descending(logits[a]!, logits[b]!));
  return order.slice(0, topN).map((index) => {
    const logit = logits[index]!;
    const exitLayer = stopped[index]!;
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
