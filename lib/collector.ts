/**
 * Gathers scored batches into one row of logits per document, and the statistics of a call.
 */
import type { ScoredBatch } from "./batches.js";
import { type CostShape, stopFlops } from "./exit/cost.js";
import type { RerankStats } from "./types.js";

export interface CollectorModel extends CostShape {
  readonly exitLayers: readonly number[];
}

/**
 * A document's windows merge by their best: each logit is the largest at its exit. NaN stands where an exit did not
 * score.
 */
export class Collector {
  /** [n × exits] raw logits. */
  readonly logits: Float32Array;
  /** [n] layer at which each document stopped. */
  readonly stopped: Uint8Array;
  readonly #model: CollectorModel;
  #sequences = 0;
  #tokens = 0;
  #spent = 0;
  #full = 0;
  #engine = 0;
  #partial = false;

  constructor(model: CollectorModel, documents: number) {
    this.#model = model;
    this.logits = new Float32Array(documents * model.exitLayers.length).fill(Number.NaN);
    this.stopped = new Uint8Array(documents);
  }

  add({ owners, lengths, result }: ScoredBatch): void {
    const exits = this.#model.exitLayers.length;
    for (const [i, owner] of owners.entries()) {
      const layer = result.exitLayers[i]!;
      this.stopped[owner] = Math.max(this.stopped[owner]!, layer);
      for (let e = 0; e < exits; e++) {
        const logit = result.logits[i * exits + e]!;
        // NaN compares false, so the first score replaces it and a missing one replaces nothing.
        if (logit > this.logits[owner * exits + e]! || Number.isNaN(this.logits[owner * exits + e]))
          this.logits[owner * exits + e] = logit;
      }
      this.#spent += stopFlops(this.#model, lengths[i]!, layer);
      this.#full += stopFlops(this.#model, lengths[i]!, this.#model.layers);
      this.#tokens += lengths[i]!;
    }
    this.#sequences += owners.length;
    this.#engine += result.milliseconds;
    this.#partial ||= result.partial;
  }

  /** Raw logit of a document at an exit layer; NaN where it was not scored. */
  logit(document: number, layer: number): number {
    const { exitLayers } = this.#model;
    return this.logits[document * exitLayers.length + exitLayers.indexOf(layer)]!;
  }

  stats(times: { readonly tokenize: number; readonly total: number }, truncated: number): RerankStats {
    const exitHistogram: Record<number, number> = {};
    for (const layer of this.stopped) exitHistogram[layer] = (exitHistogram[layer] ?? 0) + 1;
    return {
      sequences: this.#sequences,
      tokens: this.#tokens,
      truncated,
      computeFraction: this.#full > 0 ? this.#spent / this.#full : 1,
      exitHistogram,
      partial: this.#partial,
      milliseconds: { tokenize: times.tokenize, engine: this.#engine, total: times.total },
    };
  }
}
