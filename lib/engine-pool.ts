/**
 * Several engines of one model, each on a GPU of its own, behind the interface of one: a batch goes to whichever has the
 * fewest tokens in flight. Engines of the same kind give the same bits, so it does not matter which one that is.
 */
import type { NativeBatch, NativeEngine, NativeEngineInfo, NativePlan, NativeResult } from "./native-engine.js";

interface Member {
  readonly engine: NativeEngine;
  /** Tokens submitted and not yet settled. */
  load: number;
}

export class EnginePool implements NativeEngine {
  readonly ready: Promise<NativeEngineInfo>;
  readonly #members: readonly Member[];
  /** Where each job under way runs, and what it is called there. */
  readonly #jobs = new Map<number, { readonly member: Member; readonly id: number }>();
  #next = 0;

  /** At least one engine; all are closed with the pool. */
  constructor(engines: readonly NativeEngine[]) {
    this.#members = engines.map((engine) => ({ engine, load: 0 }));
    // All of them, also where one fails at once: closing an engine waits for what it is loading.
    this.ready = Promise.allSettled(engines.map(({ ready }) => ready)).then((settled) => {
      const failed = settled.find((each) => each.status === "rejected");
      if (failed) throw failed.reason;
      const infos = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
      return { ...infos[0]!, backend: infos.map(({ backend }) => backend).join(" + ") };
    });
  }

  get size(): number {
    return this.#members.length;
  }

  submit(batch: NativeBatch, plan: NativePlan): { id: number; promise: Promise<NativeResult> } {
    const member = this.#members.reduce((least, each) => (each.load < least.load ? each : least));
    const tokens = batch.tokenIds.length;
    const { id: own, promise } = member.engine.submit(batch, plan);
    const id = this.#next++;
    member.load += tokens;
    this.#jobs.set(id, { member, id: own });
    const settled = promise.finally(() => {
      member.load -= tokens;
      this.#jobs.delete(id);
    });
    return { id, promise: settled };
  }

  cancel(id: number): void {
    const job = this.#jobs.get(id);
    job?.member.engine.cancel(job.id);
  }

  close(): void {
    for (const { engine } of this.#members) engine.close();
  }
}
