/**
 * Several engines behind one: every batch runs on one of them, the load is even, and nobody can tell which one it was.
 */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { scoreBatches } from "../lib/batches.js";
import { EnginePool } from "../lib/engine-pool.js";
import { native } from "../lib/native.js";
import type { NativeBatch, NativeEngine, NativeOptions, NativeResult } from "../lib/native-engine.js";
import { makeModel } from "./fixtures/make-model.js";

const model = makeModel({ layers: 2 });
afterAll(() => model.remove());
const options: NativeOptions = { device: "cpu", dtype: "f32", threads: 1, isa: "" };
const emulator: NativeOptions = { ...options, device: "emulator" };
const plan = { depth: 2, layers: [1, 2] };

const batchOf = (tokens: number): NativeBatch => ({
  tokenIds: Int32Array.from({ length: tokens }, (_, i) => 5 + (i % 20)),
  cuSeqlens: Int32Array.of(0, tokens),
  listOffsets: Int32Array.of(0, 1),
});

describe("an engine pool", () => {
  it("scores on any engine what one alone scores, on the CPU and on emulated GPUs", async () => {
    for (const each of [options, emulator]) {
      const alone = new (native().Engine)(model.directory, each);
      const pool = new EnginePool([1, 2, 3].map(() => new (native().Engine)(model.directory, each)));
      try {
        expect((await pool.ready).backend).toBe(
          Array(3)
            .fill((await alone.ready).backend)
            .join(" + "),
        );
        const sizes = [40, 3, 17, 9, 30, 1];
        const jobs = sizes.map((tokens) => pool.submit(batchOf(tokens), plan).promise);
        const expected = await Promise.all(sizes.map((tokens) => alone.submit(batchOf(tokens), plan).promise));
        expect((await Promise.all(jobs)).map(({ logits }) => logits)).toEqual(expected.map(({ logits }) => logits));
      } finally {
        alone.close();
        pool.close();
      }
    }
  });

  it("never gives a batch to an engine that has more tokens to do than another", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.oneof(fc.integer({ min: 1, max: 100 }), fc.constant(undefined)), { maxLength: 40 }),
        async (count, events) => {
          const engines = Array.from({ length: count }, () => new Ledger());
          const pool = new EnginePool(engines);
          for (const tokens of events) {
            if (tokens === undefined) {
              await engines.find(({ load }) => load > 0)?.finishOne();
              continue;
            }
            const least = Math.min(...engines.map(({ load }) => load));
            const before = engines.map(({ load }) => load);
            pool.submit(batchOf(tokens), plan);
            const chosen = engines.findIndex(({ load }, i) => load !== before[i]);
            expect(before[chosen]).toBe(least);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("cancels a job where it runs, and closing it closes every engine", async () => {
    const pool = new EnginePool([1, 2].map(() => new (native().Engine)(model.directory, emulator)));
    await pool.ready;
    // Each engine has two of them under way.
    const jobs = [1, 2, 3, 4].map(() => pool.submit(batchOf(100), plan));
    pool.cancel(jobs[3]!.id);
    pool.cancel(77);
    const outcomes = await Promise.allSettled(jobs.map(({ promise }) => promise));
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled", "rejected"]);
    expect(outcomes[3]).toMatchObject({ reason: { code: "ERR_ABORTED" } });
    pool.close();
    expect(() => pool.submit(batchOf(1), plan)).toThrow(/closed/);
  });

  it("is ready when all engines are, and fails as the first that fails", async () => {
    const { Engine } = native();
    const pool = new EnginePool([new Engine(model.directory, options), new Engine("/nowhere", options)]);
    await expect(pool.ready).rejects.toMatchObject({ code: "ERR_MODEL_NOT_FOUND" });
    pool.close();
  });

  it("gets more batches at once than one engine, and hands results on in their order", async () => {
    const pool = new EnginePool([1, 2].map(() => new (native().Engine)(model.directory, options)));
    await pool.ready;
    const owners: number[] = [];
    await scoreBatches(
      function* (batch) {
        for (let i = 0; i < 400; i++) {
          batch.endList();
          batch.reserve(100);
          batch.tokenIds.fill(5, batch.tokens, batch.tokens + 100);
          batch.endSequence(100, i);
          yield true;
        }
      },
      { engine: pool, engines: pool.size, plan, typed: false, signal: undefined },
      (scored) => owners.push(...scored.owners),
    );
    expect(owners).toEqual(Array.from({ length: 400 }, (_, i) => i));
    pool.close();
  });
});

/** Keeps account of the tokens it was given, and finishes jobs when it is told to. */
class Ledger implements NativeEngine {
  readonly ready = new Promise<never>(() => {});
  load = 0;
  readonly #jobs: { tokens: number; finish: () => void }[] = [];

  submit({ tokenIds: { length: tokens } }: NativeBatch): { id: number; promise: Promise<NativeResult> } {
    this.load += tokens;
    const promise = new Promise<NativeResult>((resolve) => {
      this.#jobs.push({ tokens, finish: () => resolve({} as NativeResult) });
    });
    return { id: this.#jobs.length, promise };
  }

  async finishOne(): Promise<void> {
    const job = this.#jobs.shift()!;
    this.load -= job.tokens;
    job.finish();
    // The pool hears of it a few microtasks later.
    await new Promise((resolve) => setImmediate(resolve));
  }

  cancel(): void {}
  close(): void {}
}
