/**
 * Feeds an engine: cuts encoded sequences into batches, keeps some of them in flight, and hands the results on.
 */
import { aborted } from "./abort.js";
import { fromNative } from "./native.js";
import type { NativeEngine, NativePlan, NativeResult } from "./native-engine.js";
import { nextTurn, SLICE } from "./next-turn.js";
import { PackedBatch } from "./packed-batch.js";

/** Tokens after which a batch is submitted: enough to fill the machine, little enough to stop and start quickly. */
const TOKEN_BUDGET = 16_384;
/** Of each engine two are under way, as a GPU can have, and one waits, so that no engine does; memory stays bounded. */
const IN_FLIGHT = 3;

/** A batch that came back: its sequences' owners and lengths in tokens, with their scores. */
export interface ScoredBatch {
  readonly owners: readonly number[];
  readonly lengths: readonly number[];
  readonly result: NativeResult;
}

export interface BatchOptions {
  readonly engine: NativeEngine;
  /** How many engines it stands for. */
  readonly engines: number;
  readonly plan: NativePlan;
  /** `performance.now()` after which the engine ends at the next layer that has scored. */
  readonly deadline?: number | undefined;
  /** Whether the model knows token types. */
  readonly typed: boolean;
  readonly signal: AbortSignal | undefined;
}

/** The plan with the difficulties of these sequences alone, where its rule has them by document. */
function planFor(plan: NativePlan, owners: readonly number[]): NativePlan {
  const difficulty = plan.rule?.difficulty;
  if (!difficulty) return plan;
  return { ...plan, rule: { ...plan.rule!, difficulty: Float32Array.from(owners, (owner) => difficulty[owner]!) } };
}

/**
 * Scores what `encode` writes into the batch it is given. It yields true where the batch may be submitted. `collect`
 * gets every batch once, in order. Returns the milliseconds spent in `encode`. On an error or an abort the jobs under
 * way are cancelled and awaited before it throws.
 */
export async function scoreBatches(
  encode: (batch: PackedBatch) => Iterator<boolean, void>,
  { engine, engines, plan, deadline, typed, signal }: BatchOptions,
  collect: (batch: ScoredBatch) => void,
): Promise<number> {
  const batch = new PackedBatch();
  const jobs: (Omit<ScoredBatch, "result"> & { readonly id: number; readonly promise: Promise<NativeResult> })[] = [];
  const cancel = () => {
    for (const { id } of jobs) engine.cancel(id);
  };
  const submit = () => {
    const { owners } = batch;
    const lengths = owners.map((_, i) => batch.lengthOf(i));
    const { id, promise } = engine.submit(batch.view(typed), {
      ...planFor(plan, owners),
      ...(deadline !== undefined && { deadlineMs: Math.max(0, deadline - performance.now()) }),
    });
    // Awaited below, but perhaps after another one has failed.
    promise.catch(() => {});
    jobs.push({ id, promise, owners, lengths });
    batch.clear();
  };
  const settleOldest = async () => {
    const { owners, lengths, promise } = jobs[0]!;
    collect({ owners, lengths, result: await promise });
    jobs.shift();
  };

  let encoding = 0;
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    const sequences = encode(batch);
    for (let ended = false; !ended; ) {
      await nextTurn();
      signal?.throwIfAborted();
      const start = performance.now();
      let whole = true;
      let now = start;
      do {
        const { done, value } = sequences.next();
        ended = done === true;
        whole = ended || value === true;
        now = performance.now();
      } while (!ended && now - start < SLICE && !(whole && batch.tokens >= TOKEN_BUDGET));
      encoding += now - start;
      if ((ended && batch.sequences > 0) || (whole && batch.tokens >= TOKEN_BUDGET)) {
        if (jobs.length === IN_FLIGHT * engines) await settleOldest();
        signal?.throwIfAborted();
        submit();
      }
    }
    while (jobs.length > 0) await settleOldest();
    return encoding;
  } catch (error) {
    cancel();
    await Promise.allSettled(jobs.map(({ promise }) => promise));
    throw signal?.aborted ? aborted(signal) : fromNative(error);
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}
