/**
 * rerankMany: many requests, answered in order, with bounded memory.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Reranker, type RerankRequest } from "../lib/index.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
let reranker: Reranker;
beforeAll(async () => {
  model = makeModel();
  reranker = await Reranker.open(model.directory, { dtype: "f32" });
});
afterAll(async () => {
  await reranker.close();
  model.remove();
});

const request = (i: number): RerankRequest<string> => ({
  query: `panda ${i}`,
  documents: Array.from({ length: 1 + ((i * 7) % 5) }, (_, d) => `bear ${i} ${d}`),
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of items) out.push(item);
  return out;
}

describe("rerankMany", () => {
  it("answers as rerank does, in the order of the requests", async () => {
    const requests = Array.from({ length: 50 }, (_, i) => request(i));
    const many = await all(reranker.rerankMany(requests, { topN: 3 }));
    for (const [i, { query, documents }] of requests.entries())
      expect(many[i]!.results).toEqual((await reranker.rerank(query, documents, { topN: 3 })).results);
    expect(many).toHaveLength(50);
    expect(await all(reranker.rerankMany([]))).toEqual([]);
  });

  it("reads the source only a little ahead of the answers", async () => {
    let read = 0;
    let answered = 0;
    let ahead = 0;
    async function* source() {
      for (; read < 200; ) {
        ahead = Math.max(ahead, read - answered);
        yield request(read++);
      }
    }
    for await (const _ of reranker.rerankMany(source())) {
      answered++;
      if (answered % 50 === 0) await sleep(5);
    }
    expect(answered).toBe(200);
    expect(ahead).toBeLessThanOrEqual(5);
  });

  it("answers a request while its source waits with the next", async () => {
    let ask = () => {};
    async function* source() {
      for (let i = 0; i < 3; i++) {
        const asked = new Promise<void>((resolve) => {
          ask = resolve;
        });
        yield request(i);
        await asked;
      }
    }
    let answered = 0;
    for await (const _ of reranker.rerankMany(source())) {
      answered++;
      ask();
    }
    expect(answered).toBe(3);
  });

  it("lets a request override the options", async () => {
    const options = { exit: { type: "layer", layer: 2 }, topN: 1 } as const;
    const [a, b] = await all(reranker.rerankMany([request(4), { ...request(4), options: { topN: 2 } }], options));
    expect(a!.results).toHaveLength(1);
    expect(b!.results).toHaveLength(2);
    expect(b!.results[0]!.exitLayer).toBe(2);
  });

  it("keeps the call's options where a request has them undefined, and refuses what is none", async () => {
    const options = { exit: { type: "layer", layer: 2 }, topN: 1 } as const;
    const undecided = { ...request(4), options: { topN: undefined, exit: undefined } } as never;
    const answers = await all(reranker.rerankMany([undecided], options));
    expect(answers).toMatchObject([{ results: [{ exitLayer: 2 }] }]);
    for (const wrong of [7, null, { signal: new AbortController().signal }])
      await expect(all(reranker.rerankMany([{ ...request(1), options: wrong } as never]))).rejects.toMatchObject({
        ...{ code: "ERR_INVALID_ARGUMENT", message: expect.stringContaining("requests[0].options") },
      });
  });

  it("answers what a request held when it was read, though its array is filled anew", async () => {
    async function* refilled() {
      const documents: string[] = [];
      for (let i = 0; i < 6; i++) {
        documents.splice(0, documents.length, ...request(i).documents);
        yield { query: `panda ${i}`, documents };
      }
    }
    const many = await all(reranker.rerankMany(refilled(), { returnDocuments: true }));
    for (const [i, { results }] of many.entries())
      expect(results.map(({ document }) => document).sort()).toEqual([...request(i).documents].sort());
  });

  it.each([undefined, null, 5, {}, "abc"])("refuses %j for a source", async (source) => {
    await expect(all(reranker.rerankMany(source as never))).rejects.toMatchObject({
      ...{ code: "ERR_INVALID_ARGUMENT", message: expect.stringContaining("for requests") },
    });
  });

  it("says what went wrong, also where the source cannot be closed after it", async () => {
    const source = {
      [Symbol.iterator]: () => ({
        next: () => ({ done: false, value: { query: " ", documents: [] } }),
        return: () => {
          throw new Error("cannot close");
        },
      }),
    };
    await expect(all(reranker.rerankMany(source as never))).rejects.toMatchObject({ code: "ERR_EMPTY_QUERY" });
  });

  it("ends with the error of the first request that fails, after the answers before it", async () => {
    const requests = [request(0), request(1), { query: "", documents: [] }, request(3)];
    const seen: unknown[] = [];
    const run = async () => {
      for await (const answer of reranker.rerankMany(requests)) seen.push(answer);
    };
    await expect(run()).rejects.toMatchObject({
      code: "ERR_EMPTY_QUERY",
      message: expect.stringContaining("requests[2]"),
    });
    expect(seen).toHaveLength(2);
    await expect(all(reranker.rerankMany([3 as unknown as RerankRequest]))).rejects.toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
    });
    const wrong = { ...request(0), options: { topk: 1 } } as RerankRequest;
    await expect(all(reranker.rerankMany([wrong]))).rejects.toMatchObject({
      code: "ERR_UNKNOWN_OPTION",
      message: expect.stringContaining("requests[0].options"),
    });
  });

  it("passes on an error of the source, after the answers before it", async () => {
    async function* source() {
      yield request(0);
      throw new Error("source");
    }
    const seen: unknown[] = [];
    const run = async () => {
      for await (const answer of reranker.rerankMany(source())) seen.push(answer);
    };
    await expect(run()).rejects.toThrow("source");
    expect(seen).toHaveLength(1);
  });

  it("closes the source where the consumer leaves early", async () => {
    let closed = false;
    function* source() {
      try {
        for (let i = 0; ; i++) yield request(i);
      } finally {
        closed = true;
      }
    }
    for await (const _ of reranker.rerankMany(source())) break;
    expect(closed).toBe(true);
  });

  it("closes a source that is being read when the consumer leaves, and begins nothing more", async () => {
    let [closed, asked] = [false, 0];
    let answer = () => {};
    const slow = (async function* () {
      try {
        yield { query: "a", documents: ["b"] };
        await new Promise<void>((resolve) => {
          answer = resolve;
        });
        asked++;
        yield { query: "a", documents: [""] };
      } finally {
        closed = true;
      }
    })();
    for await (const _ of reranker.rerankMany(slow)) break;
    expect(closed).toBe(false);
    answer();
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect({ closed, asked }).toEqual({ closed: true, asked: 1 });
  });

  it("checks its options before it reads a request", async () => {
    let read = false;
    function* source() {
      read = true;
      yield request(0);
    }
    await expect(all(reranker.rerankMany(source(), { topN: 0 }))).rejects.toMatchObject({
      code: "ERR_INVALID_ARGUMENT",
    });
    expect(read).toBe(false);
  });
});
