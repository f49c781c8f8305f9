/**
 * What a training run says as it goes: a line with the time left where someone watches, and one for each validation.
 */
import type { MiningRecord, StepRecord, ValidationRecord } from "../train/log.js";
import type { TrainEvent } from "../train/loop.js";
import type { TrainConfig } from "../train/types.js";
import type { Output } from "./output.js";

/** Steps that means look back on. */
const MEMORY = 30;

export class TrainProgress {
  readonly #config: TrainConfig;
  readonly #output: Output;
  /** Step at which this sitting ends. */
  readonly #last: number;
  readonly #loss = new Mean();
  readonly #stepMs = new Mean();
  readonly #pairs = new Mean();
  #miningMs = 0;
  #validationMs = 0;

  constructor(config: TrainConfig, last: number, output: Output) {
    this.#config = config;
    this.#last = last;
    this.#output = output;
  }

  on(event: TrainEvent): void {
    if (event.kind === "step") this.#step(event);
    else if (event.kind === "mining") this.#mining(event);
    else if (event.kind === "validation") this.#validation(event);
  }

  #step({ step, loss, pairs, milliseconds }: StepRecord): void {
    this.#loss.add(loss);
    this.#stepMs.add(milliseconds);
    this.#pairs.add(pairs);
    const rate = (1e3 * this.#pairs.value) / this.#stepMs.value;
    this.#output.progress(
      `step ${step} of ${this.#config.steps}, loss ${this.#loss.value.toFixed(4)}, ${rate.toFixed(0)} pairs/s, ` +
        `${duration(this.#left(step))} left`,
    );
  }

  #mining({ step, round, queries, pairs, milliseconds }: MiningRecord): void {
    this.#miningMs = milliseconds;
    this.#output.note(
      `step ${step}: mining round ${round + 1} scored ${pairs} candidates of ${queries} queries in ` +
        duration(milliseconds),
    );
  }

  #validation(record: ValidationRecord): void {
    this.#validationMs = record.milliseconds;
    void (this.#output.json ? this.#output.object(record) : this.#output.line(this.#words(record)));
  }

  #words({ step, exitLayers, sets }: ValidationRecord): string {
    const mean = (exit: number) => sets.reduce((sum, { ndcg }) => sum + ndcg[exit]!, 0) / sets.length;
    const figures = exitLayers.map((layer, exit) => `${layer}: ${mean(exit).toFixed(4)}`).join("  ");
    const of = sets.length === 1 ? sets[0]!.name : `mean of ${sets.length} sets`;
    const left = this.#stepMs.value > 0 ? `, ${duration(this.#left(step))} left` : "";
    return `step ${step} of ${this.#config.steps}${left}; nDCG@10 by layer (${of}): ${figures}`;
  }

  /** Milliseconds until this sitting ends, by what steps, rounds and validations took so far. */
  #left(step: number): number {
    const { steps, negatives, validation } = this.#config;
    const rounds = negatives.rounds.filter((round) => round > step && round <= this.#last && round < steps).length;
    const regular = Math.floor(this.#last / validation.every) - Math.floor(step / validation.every);
    const final = this.#last === steps && steps % validation.every !== 0 && step < steps ? 1 : 0;
    const validations = validation.sets.length === 0 ? 0 : regular + final;
    return (this.#last - step) * this.#stepMs.value + rounds * this.#miningMs + validations * this.#validationMs;
  }
}

/** Of the last values, without those that are not finite. */
class Mean {
  #count = 0;
  #value = 0;

  add(value: number): void {
    if (!Number.isFinite(value)) return;
    this.#count = Math.min(this.#count + 1, MEMORY);
    this.#value += (value - this.#value) / this.#count;
  }

  /** 0 before the first. */
  get value(): number {
    return this.#value;
  }
}

export function duration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1e3);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
