/**
 * The run: step after step, with mining rounds, validations and checkpoints where they are due.
 *
 * All that a run is lies in a checkpoint or follows from the configuration, so a run that was killed goes on from its
 * newest checkpoint bit for bit.
 */
import { join } from "node:path";
import { throwIfAborted } from "../abort.js";
import { MatryoshkaError } from "../errors.js";
import type { NativeTrainBatch, NativeTrainer, NativeTrainerInfo } from "../native-trainer.js";
import { assertSameRun, type Checkpoint, latestCheckpoint, type MinedRound, saveCheckpoint } from "./checkpoint.js";
import { Log, type LogRecord } from "./log.js";
import { applyRound, mineRound, replayRounds } from "./mine.js";
import { rateFactor, ratesAt } from "./schedule.js";
import type { ListSource, TrainConfig, TrainEncoder } from "./types.js";
import { type ValidationSet, validate } from "./validate.js";

/** Steps in a row without a finite gradient after which more of the same is hopeless. */
const HOPELESS = 20;

export interface RunParts {
  readonly config: TrainConfig;
  readonly source: ListSource;
  readonly encoder: TrainEncoder;
  /** Ready, with the weights it was opened with. */
  readonly trainer: NativeTrainer;
  readonly info: NativeTrainerInfo;
  readonly validation: readonly ValidationSet[];
  /** Of the run: log.jsonl and checkpoints/ lie there. */
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
  /** Called with every record once it is in the log, and with every checkpoint once it is on disk. */
  readonly on?: (event: TrainEvent) => void;
}

export type TrainEvent =
  | LogRecord
  | { readonly kind: "resumed" | "checkpoint"; readonly step: number; readonly path: string };

/** What tells one checkpoint from another. */
interface Progress {
  readonly step: number;
  readonly rounds: number;
  readonly validated: number;
}

/** Where a run begins. */
const NOTHING: Pick<Checkpoint, "step" | "validated" | "mined"> = { step: 0, validated: 0, mined: [] };

export const logPath = (directory: string): string => join(directory, "log.jsonl");
export const checkpointsPath = (directory: string): string => join(directory, "checkpoints");

export class TrainRun {
  readonly #parts: RunParts;
  readonly #exits: number;
  readonly #log: Log;
  readonly #mined: MinedRound[];
  #step: number;
  /** Steps before the last validation. */
  #validated: number;
  /** What the newest checkpoint has. */
  #saved: Progress;
  /** Of the step to come, where nothing that it depends on may change any more. */
  #next: NativeTrainBatch | undefined;
  #notApplied = 0;

  private constructor(parts: RunParts, log: Log, { step, validated, mined }: typeof NOTHING) {
    this.#parts = parts;
    this.#exits = parts.info.exitLayers.length;
    this.#log = log;
    this.#step = step;
    this.#validated = validated;
    this.#mined = [...mined];
    this.#saved = this.#progress();
  }

  /**
   * Goes on from the directory's newest checkpoint, or begins. Throws `ERR_CONFIG_INVALID` where the checkpoint is of
   * another configuration or other data, `ERR_FILE` where the directory cannot be read or written.
   */
  static async open(parts: RunParts): Promise<TrainRun> {
    const { config, source, trainer, directory, on } = parts;
    const checkpoint = await latestCheckpoint(checkpointsPath(directory));
    if (!checkpoint) return new TrainRun(parts, new Log(logPath(directory), 0), NOTHING);
    assertSameRun(checkpoint, { config, lists: source.summary });
    replayRounds(source, checkpoint.mined);
    await trainer.load(checkpoint.state);
    const log = new Log(logPath(directory), checkpoint.logBytes);
    on?.({ kind: "resumed", step: checkpoint.step, path: checkpoint.directory });
    return new TrainRun(parts, log, checkpoint);
  }

  /** Steps done. */
  get step(): number {
    return this.#step;
  }

  get finished(): boolean {
    return this.#step === this.#parts.config.steps;
  }

  /**
   * Trains until the last step or until `most` steps have been done, with a checkpoint at the end. An aborted signal
   * ends it before the next step, list to mine or list to validate, with a checkpoint too, and rejects with
   * `ERR_ABORTED`.
   */
  async train(most = Number.POSITIVE_INFINITY): Promise<void> {
    const { signal, config } = this.#parts;
    const last = Math.min(config.steps, this.#step + most);
    try {
      for (;;) {
        await this.#mineIfDue();
        await this.#validateIfDue();
        const ended = this.#step === last;
        if (ended || this.#step % config.checkpoint.every === 0) await this.#save();
        if (ended) return;
        throwIfAborted(signal);
        await this.#doStep(last);
      }
    } catch (error) {
      if (error instanceof MatryoshkaError && error.code === "ERR_ABORTED") await this.#save();
      throw error;
    }
  }

  close(): void {
    this.#log.close();
  }

  async #doStep(last: number): Promise<void> {
    const { config, trainer, info } = this.#parts;
    const batch = this.#next ?? this.#draw(this.#step);
    this.#next = undefined;
    const rate = rateFactor(config, this.#step);
    const pending = trainer.step(batch, config.loss, ratesAt(config, this.#step));
    // Awaited below; a failure of the next line must not leave it without a handler.
    pending.catch(() => {});
    const step = this.#step + 1;
    // Drawn and encoded while the native step runs.
    if (step < last && !this.#miningDueAt(step)) this.#next = this.#draw(step);
    const { loss, perExit, gradNorm, applied, tokens, milliseconds } = await pending;
    this.#step = step;
    const pairs = batch.cuSeqlens.length - 1;
    this.#record({ kind: "step", step, loss, perExit, gradNorm, applied, tokens, pairs, rate, milliseconds });
    this.#notApplied = applied ? 0 : this.#notApplied + 1;
    if (this.#notApplied < HOPELESS) return;
    throw new MatryoshkaError(
      "ERR_TENSOR_NOT_FINITE",
      `Expected finite gradients but ${HOPELESS} steps in a row, up to step ${this.#step}, had none (${info.backend}). ` +
        "Lower optimizer.encoder and optimizer.heads, or clip at a smaller norm.",
    );
  }

  #draw(step: number): NativeTrainBatch {
    const { source, encoder } = this.#parts;
    return encoder.lists(source.draw(step));
  }

  #miningDueAt(step: number): boolean {
    const { steps, negatives } = this.#parts.config;
    const due = negatives.rounds[this.#mined.length];
    return due !== undefined && due <= step && step < steps;
  }

  async #mineIfDue(): Promise<void> {
    const { trainer, encoder, source, signal } = this.#parts;
    while (this.#miningDueAt(this.#step)) {
      const start = performance.now();
      const round = this.#mined.length;
      const mined = await mineRound(trainer, encoder, source, { round, exits: this.#exits, signal });
      applyRound(source, mined);
      this.#mined.push(mined);
      const pairs = mined.scores.reduce((sum, scores) => sum + scores.length, 0);
      const milliseconds = performance.now() - start;
      this.#record({ kind: "mining", step: this.#step, round, queries: mined.keys.length, pairs, milliseconds });
      await this.#save();
    }
  }

  async #validateIfDue(): Promise<void> {
    const { config, validation, trainer, encoder, info, signal } = this.#parts;
    const due = this.finished || (this.#step > 0 && this.#step % config.validation.every === 0);
    if (!due || this.#validated === this.#step || validation.length === 0) return;
    const start = performance.now();
    const sets = [];
    for (const set of validation) sets.push(await validate(trainer, encoder, set, this.#exits, signal));
    const milliseconds = performance.now() - start;
    this.#record({ kind: "validation", step: this.#step, exitLayers: info.exitLayers, sets, milliseconds });
    this.#validated = this.#step;
  }

  #record(record: LogRecord): void {
    this.#log.add(record);
    this.#parts.on?.(record);
  }

  async #save(): Promise<void> {
    const { config, source, trainer, directory, on } = this.#parts;
    const now = this.#progress();
    const same = (Object.keys(now) as (keyof Progress)[]).every((key) => now[key] === this.#saved[key]);
    if (same) return;
    this.#log.sync();
    const checkpoint = {
      ...{ config, lists: source.summary, step: now.step, validated: now.validated },
      ...{ mined: this.#mined, logBytes: this.#log.bytes },
    };
    const path = await saveCheckpoint(checkpointsPath(directory), checkpoint, (state) => trainer.save(state));
    this.#saved = now;
    on?.({ kind: "checkpoint", step: now.step, path });
  }

  #progress(): Progress {
    return { step: this.#step, rounds: this.#mined.length, validated: this.#validated };
  }
}
