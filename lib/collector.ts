/**
 * Gathers scored batches into one row of logits per document, and the statistics of a call.
 */
import type { ScoredBatch } from "./batches.js";
import { type CostShape, stopFlops } from "./exit/cost.js";
import type { RerankStats } from "./types.js";

export interface CollectorModel extends CostShape {
  readonly exitLayers: readonly number[];
  readonly compensated: boolean;
}

/**
 * A document's windows merge by their best: each logit is the largest at its exit, and what else is known there comes
 * from that window. NaN stands where an exit did not score.
 */
export class Collector {
  /** [n × exits] raw logits. */
  readonly logits: Float32Array;
  /** [n × exits] each, where the model has compensations: see `Trajectory`. */
  readonly estimates: Float32Array | undefined;
  readonly units: Float32Array | undefined;
  /** [n × exits × hidden] scoring rows, where asked for. */
  readonly states: Float32Array | undefined;
  /** [n] tokens of each document's sequences, special tokens included. */
  readonly tokens: Int32Array;
  /** [n] layer at which each document stopped. */
  readonly stopped: Uint8Array;
  readonly #model: CollectorModel;
  #sequences = 0;
  #spent = 0;
  #full = 0;
  #engine = 0;
  #partial = false;

  constructor(model: CollectorModel, documents: number, states = false) {
    this.#model = model;
    const size = documents * model.exitLayers.length;
    const none = (n: number) => new Float32Array(n).fill(Number.NaN);
    this.logits = none(size);
    this.estimates = model.compensated ? none(size) : undefined;
    this.units = model.compensated ? none(size) : undefined;
    this.states = states ? none(size * model.hidden) : undefined;
    this.tokens = new Int32Array(documents);
    this.stopped = new Uint8Array(documents);
  }

  add({ owners, lengths, result }: ScoredBatch): void {
    const exits = this.#model.exitLayers.length;
    for (const [i, owner] of owners.entries()) {
      const layer = result.exitLayers[i]!;
      // Windows part only where a deadline cut some of them short; up to the shallowest all have scored.
      this.stopped[owner] = Math.min(this.stopped[owner] || layer, layer);
      for (let e = 0; e < exits; e++) {
        const [from, to] = [i * exits + e, owner * exits + e];
        // NaN compares false, so the first score replaces it and a missing one replaces nothing.
        if (result.logits[from]! > this.logits[to]! || Number.isNaN(this.logits[to])) this.#take(result, from, to);
      }
      this.#spent += stopFlops(this.#model, lengths[i]!, layer);
      this.#full += stopFlops(this.#model, lengths[i]!, this.#model.layers);
      this.tokens[owner]! += lengths[i]!;
    }
    this.#sequences += owners.length;
    this.#engine += result.milliseconds;
    this.#partial ||= result.partial;
  }

  #take({ logits, estimates, units, states }: ScoredBatch["result"], from: number, to: number): void {
    this.logits[to] = logits[from]!;
    if (this.estimates && estimates) this.estimates[to] = estimates[from]!;
    if (this.units && units) this.units[to] = units[from]!;
    const { hidden } = this.#model;
    if (this.states && states) this.states.set(states.subarray(from * hidden, (from + 1) * hidden), to * hidden);
  }

  /** Raw logit of a document at an exit layer; NaN where it was not scored. */
  logit(document: number, layer: number): number {
    return this.logits[this.#at(document, layer)]!;
  }

  /** What that exit says of the final logit, before a rule's own slope and offset. */
  estimate(document: number, layer: number): number {
    return (this.estimates ?? this.logits)[this.#at(document, layer)]!;
  }

  /** Of one of the arrays above, [n × exits × width], what stands at each of `layers`: [n × width]. */
  byLayer(values: Float32Array, layers: readonly number[], width = 1): Record<number, Float32Array> {
    const n = this.tokens.length;
    return Object.fromEntries(
      layers.map((layer) => {
        const out = new Float32Array(n * width);
        for (let i = 0; i < n; i++) {
          const from = this.#at(i, layer) * width;
          out.set(values.subarray(from, from + width), i * width);
        }
        return [layer, out];
      }),
    );
  }

  #at(document: number, layer: number): number {
    const { exitLayers } = this.#model;
    return document * exitLayers.length + exitLayers.indexOf(layer);
  }

  stats(times: { readonly tokenize: number; readonly total: number }, truncated: number): RerankStats {
    const exitHistogram: Record<number, number> = {};
    for (const layer of this.stopped) exitHistogram[layer] = (exitHistogram[layer] ?? 0) + 1;
    return {
      sequences: this.#sequences,
      tokens: this.tokens.reduce((sum, each) => sum + each, 0),
      truncated,
      computeFraction: this.#full > 0 ? this.#spent / this.#full : 1,
      exitHistogram,
      partial: this.#partial,
      milliseconds: { tokenize: times.tokenize, engine: this.#engine, total: times.total },
    };
  }
}
