/**
 * Training runs: they learn, resume bit for bit wherever they were stopped, and what they export opens and scores alike.
 */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../lib/eval/random.js";
import { latestCheckpoint } from "../lib/train/checkpoint.js";
import { readLog } from "../lib/train/log.js";
import { checkpointsPath, logPath, type RunParts, type TrainEvent, TrainRun } from "../lib/train/loop.js";
import { rateFactor } from "../lib/train/schedule.js";
import { openTrainer } from "../lib/train/trainer.js";
import type { Candidate, ListSource, TrainConfig, TrainEncoder, TrainList } from "../lib/train/types.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
let scratch: string;
let runs = 0;
beforeAll(() => {
  model = makeModel({ layers: 3 });
  scratch = mkdtempSync(join(tmpdir(), "matryoshka-training-"));
});
afterAll(() => {
  model.remove();
  rmSync(scratch, { recursive: true, force: true });
});
const fresh = (): string => {
  const directory = join(scratch, String(runs++));
  mkdirSync(directory);
  return directory;
};

const config: TrainConfig = {
  init: "model",
  tokenTypes: "segment",
  maxLength: 32,
  maxQueryLength: 8,
  seed: 7,
  dtype: "f32",
  steps: 24,
  listsPerStep: 3,
  listSize: 4,
  turnTokens: 200,
  recompute: false,
  layerDropout: 0.2,
  sources: [{ path: "made" }],
  negatives: { random: 0, rounds: [5, 10], keep: 4, queries: 6 },
  loss: {
    exitWeights: [1, 1, 1],
    rank: 1,
    binary: 0.2,
    teachers: [],
    distill: { weight: 0.5, temperature: 1, direction: "forward", anchors: [] },
  },
  optimizer: {
    ...{ encoder: 2e-3, heads: 5e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clip: 1 },
    ...{ warmup: 0.1, decay: "linear" },
  },
  validation: { every: 8, sets: [] },
  checkpoint: { every: 4 },
};

/** Queries of the model's own words; the relevant document repeats the query. Mining changes what is drawn. */
class MadeLists implements ListSource {
  readonly summary = [{ name: "made", lists: 20, candidates: 160, skipped: 0 }];
  readonly #best = new Map<string, number[]>();
  readonly #lists: TrainList[];

  constructor() {
    const random = new Random("made");
    const text = (words: number) =>
      Array.from({ length: words }, () => "abcdefghijklmnop"[random.integer(16)]).join(" ");
    this.#lists = Array.from({ length: 20 }, () => {
      const query = text(3);
      const wrong: Candidate[] = Array.from({ length: 7 }, () => ({ text: text(6), label: 0, teachers: [] }));
      return { query, candidates: [{ text: query, label: 1, teachers: [] }, ...wrong] };
    });
  }

  draw(step: number): TrainList[] {
    const random = new Random(`${config.seed} ${step}`);
    return Array.from({ length: config.listsPerStep }, () => {
      const key = random.integer(this.#lists.length);
      const list = this.#lists[key]!;
      // A copy: what is drawn may depend on the step and the rounds alone, not on the draws before.
      const wrong = random.shuffle([...(this.#best.get(String(key)) ?? [1, 2, 3, 4, 5, 6, 7])]);
      return { ...list, candidates: [0, ...wrong.slice(0, 3)].map((c) => list.candidates[c]!) };
    });
  }

  *mining(round: number) {
    const random = new Random(`mining ${round}`);
    for (let i = 0; i < config.negatives.queries; i++) {
      const key = random.integer(this.#lists.length);
      const { query, candidates } = this.#lists[key]!;
      yield { key: String(key), query, documents: candidates.slice(1).map(({ text }) => text) };
    }
  }

  mined(key: string, scores: readonly number[]): void {
    const order = scores.map((_, i) => i + 1).sort((a, b) => scores[b - 1]! - scores[a - 1]!);
    this.#best.set(key, order.slice(0, config.negatives.keep));
  }
}

/** A token a letter. */
const encoder: TrainEncoder = {
  lists(lists) {
    const pairs = lists.flatMap(({ query, candidates }) => candidates.map(({ text }) => [query, text] as const));
    const sizes = lists.map(({ candidates }) => candidates.length);
    const labels = Float32Array.from(lists.flatMap(({ candidates }) => candidates.map(({ label }) => label)));
    return { ...pack(pairs, sizes), labels, teachers: [] };
  },
  pairs: (query, documents) =>
    pack(
      documents.map((text) => [query, text] as const),
      [documents.length],
    ),
};

function pack(pairs: readonly (readonly [string, string])[], sizes: readonly number[]) {
  const ids = (text: string) => [...text.replaceAll(" ", "")].map((letter) => letter.charCodeAt(0) - 96);
  const sequences = pairs.map(
    ([query, text]) =>
      [
        [0, ...ids(query), 0],
        [...ids(text), 0],
      ] as const,
  );
  const sums = (counts: readonly number[]) => {
    let sum = 0;
    return Int32Array.from([0, ...counts], (count) => (sum += count));
  };
  return {
    tokenIds: Int32Array.from(sequences.flat(2)),
    typeIds: Int32Array.from(sequences.flatMap(([a, b]) => [...a.map(() => 0), ...b.map(() => 1)])),
    cuSeqlens: sums(sequences.map(([a, b]) => a.length + b.length)),
    listOffsets: sums(sizes),
  };
}

interface Sitting {
  readonly directory: string;
  readonly changes?: Partial<TrainConfig>;
  readonly most?: number;
  readonly parts?: Partial<RunParts>;
}

/** One process's worth of a run: everything is opened anew. Gives the bits of the weights. */
async function sit({ directory, changes = {}, most, parts = {} }: Sitting): Promise<Buffer> {
  const now = { ...config, ...changes };
  const { trainer, info } = await openTrainer({ ...now, init: model.directory }, 1);
  let run: TrainRun | undefined;
  try {
    const source = new MadeLists();
    run = await TrainRun.open({ config: now, source, encoder, trainer, info, validation: [], directory, ...parts });
    await run.train(most);
    const state = join(scratch, "bits");
    await trainer.save(state);
    return readFileSync(state);
  } finally {
    run?.close();
    trainer.close();
  }
}

const checkpoints = (directory: string) => readdirSync(checkpointsPath(directory)).sort();

describe("learning rates", () => {
  it("rise from above 0 to the peak, then fall, and the last step still learns", () => {
    const decays = fc.constantFrom("linear" as const, "cosine" as const, "constant" as const);
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 500 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        decays,
        (n, w, decay) => {
          const given = { steps: n, optimizer: { ...config.optimizer, warmup: w, decay } };
          const factors = Array.from({ length: n }, (_, step) => rateFactor(given, step));
          expect(Math.max(...factors)).toBeCloseTo(1, 9);
          const peak = factors.indexOf(Math.max(...factors));
          for (const [i, factor] of factors.entries()) {
            expect(factor).toBeGreaterThan(0);
            if (i > 0 && i <= peak) expect(factor).toBeGreaterThanOrEqual(factors[i - 1]!);
            if (i > peak) expect(factor).toBeLessThanOrEqual(factors[i - 1]!);
          }
        },
      ),
    );
  });
});

describe("a run", () => {
  it("brings the loss down, and logs every step, round and checkpoint once", async () => {
    const directory = fresh();
    const events: TrainEvent[] = [];
    await sit({ directory, parts: { on: (event) => events.push(event) } });
    const records = await readLog(logPath(directory));
    const steps = records.filter((record) => record.kind === "step");
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
    const mean = (some: typeof steps) => some.reduce((sum, { loss }) => sum + loss, 0) / some.length;
    expect(mean(steps.slice(-5))).toBeLessThan(0.8 * mean(steps.slice(0, 5)));
    expect(records.filter(({ kind }) => kind === "mining").map(({ step }) => step)).toEqual([5, 10]);
    expect(events.filter(({ kind }) => kind === "checkpoint").map(({ step }) => step)).toEqual([
      4, 5, 8, 10, 12, 16, 20, 24,
    ]);
    expect(checkpoints(directory)).toEqual(["checkpoint-000007", "checkpoint-000008"]);
  });

  it("stopped after any number of steps and opened anew ends with the same bits", async () => {
    const straight = await sit({ directory: fresh() });
    const directory = fresh();
    let bits: Buffer | undefined;
    for (const most of [3, 2, 1, 6, 100]) bits = await sit({ directory, most });
    expect(bits!.equals(straight)).toBe(true);
    const steps = (await readLog(logPath(directory))).filter(({ kind }) => kind === "step");
    expect(steps.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
  });

  it("that lost what came after its last checkpoint does it again", async () => {
    const straight = await sit({ directory: fresh() });
    const directory = fresh();
    const killed = { on: (event: TrainEvent) => void (event.kind === "step" && event.step === 11 && fail()) };
    await expect(sit({ directory, parts: killed })).rejects.toThrow("killed");
    writeFileSync(logPath(directory), '{"kind":"st', { flag: "a" });
    mkdirSync(join(checkpointsPath(directory), "checkpoint-000099.tmp"));
    expect((await sit({ directory })).equals(straight)).toBe(true);
    expect((await readLog(logPath(directory))).filter(({ kind }) => kind === "step")).toHaveLength(24);
  });

  it("ends at once with a checkpoint when it is aborted, also in a mining round", async () => {
    const straight = await sit({ directory: fresh() });
    const directory = fresh();
    for (const at of [2, 5, 13]) {
      const abort = new AbortController();
      const on = (event: TrainEvent) => event.kind === "step" && event.step === at && abort.abort();
      const parts = { on, signal: abort.signal } as Partial<RunParts>;
      await expect(sit({ directory, parts })).rejects.toMatchObject({ code: "ERR_ABORTED" });
      expect(await latestCheckpoint(checkpointsPath(directory))).toMatchObject({ step: at });
    }
    expect((await sit({ directory })).equals(straight)).toBe(true);
  });

  it("that has ended does nothing more", async () => {
    const directory = fresh();
    await sit({ directory });
    const before = checkpoints(directory);
    await sit({ directory });
    expect(checkpoints(directory)).toEqual(before);
  });
});

describe("what cannot go on says so", () => {
  it("another configuration names what differs; only when to look may change", async () => {
    const directory = fresh();
    await sit({ directory, most: 4 });
    const optimizer = { ...config.optimizer, heads: 1e-3 };
    await expect(sit({ directory, changes: { optimizer } })).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: expect.stringContaining("optimizer.heads was 0.005 and is 0.001"),
    });
    await sit({ directory, changes: { checkpoint: { every: 100 }, validation: { every: 3, sets: [] } }, most: 2 });
  });

  it("other data", async () => {
    const directory = fresh();
    await sit({ directory, most: 6 });
    const more = Object.assign(new MadeLists(), {
      summary: [{ name: "made", lists: 21, candidates: 168, skipped: 0 }],
    });
    await expect(sit({ directory, parts: { source: more } })).rejects.toMatchObject({
      code: "ERR_CONFIG_INVALID",
      message: expect.stringContaining("lists.0.lists was 20 and is 21"),
    });
    const others = new MadeLists();
    others.mining = function* () {};
    await expect(sit({ directory, parts: { source: others } })).rejects.toMatchObject({ code: "ERR_CONFIG_INVALID" });
  });

  it("a log that is shorter than its checkpoint knows", async () => {
    const directory = fresh();
    await sit({ directory, most: 4 });
    writeFileSync(logPath(directory), "");
    await expect(sit({ directory })).rejects.toMatchObject({ code: "ERR_FILE" });
  });

  it("a directory where nothing can be written, with finished checkpoints left as they were", async () => {
    const directory = fresh();
    await sit({ directory, most: 4 });
    // Its place is taken by a file, so that not even root can write there.
    writeFileSync(join(checkpointsPath(directory), "checkpoint-000002"), "");
    const before = await latestCheckpointBits(directory, "checkpoint-000001");
    rmSync(join(checkpointsPath(directory), "checkpoint-000002"));
    writeFileSync(join(directory, "file"), "");
    await expect(sit({ directory: join(directory, "file") })).rejects.toMatchObject({ code: "ERR_FILE" });
    expect((await latestCheckpointBits(directory, "checkpoint-000001")).equals(before)).toBe(true);
  });
});

function fail(): never {
  throw new Error("killed");
}

async function latestCheckpointBits(directory: string, name: string): Promise<Buffer> {
  const path = join(checkpointsPath(directory), name, "state");
  expect(existsSync(path)).toBe(true);
  return readFileSync(path);
}
