/**
 * Calls end early by their signal or with the model, leave nothing behind, and harm no other call.
 */
import { getEventListeners } from "node:events";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Reranker } from "../lib/index.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
let reranker: Reranker;
beforeAll(async () => {
  model = makeModel({ layers: 8, hidden: 64, intermediate: 256 });
  reranker = await Reranker.open(model.directory, { dtype: "f32", threads: 1 });
});
afterAll(async () => {
  await reranker.close();
  model.remove();
});

/** Enough work for several batches. */
const many = Array.from({ length: 3_000 }, (_, i) => `panda bear ${i} `.repeat(8));
const listeners = (signal: AbortSignal) => getEventListeners(signal, "abort").length;

describe("abort", () => {
  const aborted = (cause: unknown) => ({ name: "MatryoshkaError", code: "ERR_ABORTED", cause });

  it("before a call: nothing runs", async () => {
    const signal = AbortSignal.abort("never mind");
    await expect(reranker.rerank("panda", many, { signal })).rejects.toMatchObject(aborted("never mind"));
    await expect(reranker.score([], { signal })).rejects.toMatchObject(aborted("never mind"));
    await expect(reranker.rerankMany([], { signal }).next()).rejects.toMatchObject(aborted("never mind"));
    expect(listeners(signal)).toBe(0);
  });

  it("during a call: it rejects with the reason as its cause, and the next call is answered", async () => {
    for (const wait of [0, 1, 5, 20, 60]) {
      const controller = new AbortController();
      const call = reranker.rerank("panda", many, { signal: controller.signal });
      const reason = new Error("changed my mind");
      const rejected = expect(call).rejects.toMatchObject(aborted(reason));
      await (wait === 0 ? setImmediate() : sleep(wait));
      controller.abort(reason);
      await rejected;
      expect(listeners(controller.signal)).toBe(0);
      expect((await reranker.rerank("panda", ["bear"])).results).toHaveLength(1);
    }
  });

  it("after a call: nothing happens, and no listener is left", async () => {
    const controller = new AbortController();
    const { results } = await reranker.rerank("panda", ["bear"], { signal: controller.signal });
    expect(listeners(controller.signal)).toBe(0);
    controller.abort();
    expect(results).toHaveLength(1);
  });

  it("of one call leaves the others alone", async () => {
    const controller = new AbortController();
    const doomed = reranker.rerank("panda", many, { signal: controller.signal });
    const rejected = expect(doomed).rejects.toMatchObject({ code: "ERR_ABORTED" });
    const others = Promise.all([1, 2, 3].map((i) => reranker.rerank(`panda ${i}`, many.slice(0, 100))));
    await sleep(3);
    controller.abort();
    await rejected;
    for (const { results } of await others) expect(results).toHaveLength(100);
  });

  it("of rerankMany ends it, also while its source is silent", async () => {
    const controller = new AbortController();
    async function* source() {
      yield { query: "panda", documents: ["bear"] };
      await new Promise(() => {});
    }
    const responses = reranker.rerankMany(source(), { signal: controller.signal });
    expect((await responses.next()).done).toBe(false);
    const next = responses.next();
    await sleep(2);
    controller.abort("enough");
    await expect(next).rejects.toMatchObject(aborted("enough"));
    expect(listeners(controller.signal)).toBe(0);
  });

  it("works by timeout too", async () => {
    await expect(reranker.rerank("panda", many, { signal: AbortSignal.timeout(5) })).rejects.toMatchObject({
      code: "ERR_ABORTED",
      cause: { name: "TimeoutError" },
    });
  });
});

describe("close", () => {
  it("rejects the calls under way and all later ones", async () => {
    for (const wait of [0, 1, 10, 50]) {
      const closing = await Reranker.open(model.directory, { dtype: "f32", threads: 1 });
      const calls = [
        closing.rerank("panda", many),
        closing.score(many.map((document) => ({ query: "panda", document }))),
        closing.rerankMany([{ query: "panda", documents: many }]).next(),
      ];
      const rejected = Promise.all(calls.map((call) => expect(call).rejects.toMatchObject({ code: "ERR_CLOSED" })));
      await (wait === 0 ? setImmediate() : sleep(wait));
      await closing.close();
      await rejected;
      await expect(closing.rerank("panda", [])).rejects.toMatchObject({ code: "ERR_CLOSED" });
      await expect(closing.score([])).rejects.toMatchObject({ code: "ERR_CLOSED" });
      await expect(closing.rerankMany([]).next()).rejects.toMatchObject({ code: "ERR_CLOSED" });
    }
  });

  it("may come twice, and at the end of a block", async () => {
    const twice = await Reranker.open(model.directory, { dtype: "f32" });
    await twice.close();
    await twice.close();
    let kept: Reranker;
    {
      await using scoped = await Reranker.open(model.directory, { dtype: "f32" });
      kept = scoped;
      expect((await kept.rerank("panda", ["bear"])).results).toHaveLength(1);
    }
    await expect(kept.rerank("panda", ["bear"])).rejects.toMatchObject({ code: "ERR_CLOSED" });
  });

  it("of one model leaves another alone", async () => {
    const other = await Reranker.open(model.directory, { dtype: "f32" });
    const call = reranker.rerank("panda", many.slice(0, 500));
    await other.close();
    expect((await call).results).toHaveLength(500);
  });
});

describe("many calls at once", () => {
  it("are all answered, each with its own", async () => {
    const alone = await Promise.all([0, 1, 2].map((i) => reranker.rerank(`bear ${i}`, many.slice(i, i + 5))));
    const calls = Array.from({ length: 60 }, (_, i) =>
      reranker.rerank(`bear ${i % 3}`, many.slice(i % 3, (i % 3) + 5)),
    );
    for (const [i, { results }] of (await Promise.all(calls)).entries()) expect(results).toEqual(alone[i % 3]!.results);
  });
});
