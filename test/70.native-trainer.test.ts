/**
 * The native trainer from JavaScript: it learns, resumes, exports, closes, and no input brings the process down.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../lib/eval/random.js";
import { native } from "../lib/native.js";
import type { NativeLoss, NativeTrainBatch, NativeTrainer, NativeTrainerOptions } from "../lib/native-trainer.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
let scratch: string;
beforeAll(() => {
  model = makeModel({ layers: 3 });
  scratch = mkdtempSync(join(tmpdir(), "matryoshka-trainer-"));
});
afterAll(() => {
  model.remove();
  rmSync(scratch, { recursive: true, force: true });
});

const defaults: NativeTrainerOptions = {
  threads: 2,
  dtype: "f32",
  device: "cpu",
  isa: "",
  seed: 1,
  turnTokens: 200,
  recompute: false,
  layerDropout: 0,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  clip: 1,
};
const loss: NativeLoss = {
  exitWeights: [1, 1, 1],
  rank: 1,
  binary: 0.2,
  teachers: [{ weight: 0.3, temperature: 0.5, soften: 1 }],
  distill: { weight: 0.5, temperature: 1, direction: "forward", anchors: [2] },
};
const rates = { encoder: 2e-3, heads: 5e-3 };

/** Lists of four pairs of 3 to 30 random tokens, the first one relevant. */
function lists(count: number, seed: number): NativeTrainBatch & { teachers: Float32Array[] } {
  const random = new Random(seed);
  const whole = (below: number) => random.integer(below);
  const lengths = Array.from({ length: 4 * count }, () => 3 + whole(28));
  const cuSeqlens = Int32Array.from([0, ...lengths]);
  for (let i = 1; i < cuSeqlens.length; i++) cuSeqlens[i]! += cuSeqlens[i - 1]!;
  const tokens = cuSeqlens.at(-1)!;
  return {
    tokenIds: Int32Array.from({ length: tokens }, () => whole(20)),
    typeIds: Int32Array.from({ length: tokens }, () => whole(2)),
    cuSeqlens,
    listOffsets: Int32Array.from({ length: count + 1 }, (_, i) => 4 * i),
    labels: Float32Array.from(lengths, (_, i) => (i % 4 === 0 ? 1 : 0)),
    teachers: [Float32Array.from(lengths, (_, i) => (i % 5 === 0 ? Number.NaN : random.normal()))],
  };
}

async function withTrainer<T>(
  options: Partial<NativeTrainerOptions>,
  body: (trainer: NativeTrainer) => Promise<T>,
): Promise<T> {
  const trainer = new (native().Trainer)(model.directory, { ...defaults, ...options });
  try {
    await trainer.ready;
    return await body(trainer);
  } finally {
    trainer.close();
  }
}

const train = async (trainer: NativeTrainer, first: number, last: number) => {
  for (let i = first; i < last; i++) await trainer.step(lists(3, i % 4), loss, rates);
};

describe("a step", () => {
  it("says what it lost at each exit, and brings the loss down when repeated", async () => {
    await withTrainer({}, async (trainer) => {
      const batch = lists(3, 1);
      const first = await trainer.step(batch, loss, rates);
      expect(first).toMatchObject({ applied: true, step: 1, tokens: batch.tokenIds.length });
      expect(first.perExit).toHaveLength(3);
      expect(first.perExit[2]).toMatchObject({ distill: 0, teachers: [expect.any(Number)] });
      const total = first.perExit.reduce(
        (sum, exit) => sum + exit.rank + 0.2 * exit.binary + 0.3 * exit.teachers[0]! + 0.5 * exit.distill,
        0,
      );
      expect(first.loss).toBeCloseTo(total, 10);
      let last = first;
      for (let i = 0; i < 30; i++) last = await trainer.step(batch, loss, rates);
      expect(last.loss).toBeLessThan(first.loss / 2);
    });
  });

  it("copies its batch when it is called", async () => {
    await withTrainer({}, async (trainer) => {
      const batch = lists(2, 1);
      const step = trainer.step(batch, loss, rates);
      batch.tokenIds.fill(-1);
      await expect(step).resolves.toMatchObject({ applied: true });
    });
  });
});

describe("a run", () => {
  it("that is saved and loaded goes on as if nothing had happened", async () => {
    const state = join(scratch, "state");
    const probe = lists(2, 9);
    const straight = await withTrainer({ layerDropout: 0.2 }, async (trainer) => {
      await train(trainer, 0, 5);
      await trainer.save(state);
      await train(trainer, 5, 8);
      return trainer.score(probe);
    });
    const resumed = await withTrainer({ layerDropout: 0.2, threads: 1, seed: 5 }, async (trainer) => {
      await trainer.load(state);
      await train(trainer, 5, 8);
      return trainer.score(probe);
    });
    expect(resumed).toEqual(straight);
  });

  it("exports what an engine opens and scores alike", async () => {
    const probe = lists(2, 9);
    const trained = makeModel({ layers: 3 });
    try {
      const scores = await withTrainer({}, async (trainer) => {
        await train(trainer, 0, 3);
        await trainer.export(trained.directory);
        return trainer.score(probe);
      });
      const engine = new (native().Engine)(trained.directory, { device: "cpu", dtype: "f32", threads: 1, isa: "" });
      await engine.ready;
      const { logits } = await engine.submit(probe, { depth: 3, layers: [1, 2, 3] }).promise;
      engine.close();
      for (const [i, score] of scores.entries()) expect(Math.abs(logits[i]! - score)).toBeLessThan(0.02);
    } finally {
      trained.remove();
    }
  });

  it("takes more token types and other exits than the model has", async () => {
    const trainer = new (native().Trainer)(model.directory, { ...defaults, typeRows: 4, exitLayers: [1, 3] });
    expect(await trainer.ready).toMatchObject({ tokenTypes: 4, exitLayers: [1, 3], head: "linear", layers: 3 });
    const batch = lists(1, 2);
    batch.typeIds!.fill(3);
    expect(await trainer.score(batch)).toHaveLength(8);
    trainer.close();
  });
});

describe("what is wrong is refused, and the next call is answered", () => {
  const good = lists(2, 1);
  const cases: [string, object, object, object][] = [
    ["no batch", [], loss, rates],
    ["an id beyond the vocabulary", { ...good, tokenIds: good.tokenIds.map(() => 1 << 20) }, loss, rates],
    ["a label too few", { ...good, labels: good.labels.slice(1) }, loss, rates],
    ["labels of another type", { ...good, labels: [...good.labels] }, loss, rates],
    ["a label beyond 1", { ...good, labels: good.labels.map(() => 2) }, loss, rates],
    ["a teacher too few", { ...good, teachers: [] }, loss, rates],
    ["a teacher that is infinite", { ...good, teachers: [good.labels.map(() => Infinity)] }, loss, rates],
    ["offsets that do not ascend", { ...good, listOffsets: Int32Array.of(0, 8, 4) }, loss, rates],
    ["a weight too few", good, { ...loss, exitWeights: [1] }, rates],
    ["a weight that is no number", good, { ...loss, rank: "1" }, rates],
    ["no self-distillation", good, { ...loss, distill: undefined }, rates],
    ["an unknown direction", good, { ...loss, distill: { ...loss.distill, direction: "up" } }, rates],
    ["an anchor that is no exit", good, { ...loss, distill: { ...loss.distill, anchors: [7] } }, rates],
    ["a rate that is no number", good, loss, { encoder: Number.NaN, heads: 1 }],
    ["no rates", good, loss, {}],
  ];
  it.each(cases)("%s", async (_name, batch, config, given) => {
    await withTrainer({}, async (trainer) => {
      const step = trainer.step(batch as NativeTrainBatch, config as NativeLoss, given as typeof rates);
      await expect(step).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
      await expect(trainer.step(good, loss, rates)).resolves.toMatchObject({ step: 1 });
    });
  });

  it.each([
    ["threads", 0],
    ["threads", Number.NaN],
    ["dtype", "int8"],
    ["turnTokens", 0],
    ["layerDropout", 1],
    ["beta1", 1],
    ["clip", 0],
    ["seed", -1],
    ["typeRows", 1],
    ["exitLayers", [1, 2]],
    ["exitLayers", [3, 1]],
    ["isa", "sse9"],
  ])("option %s: %s", async (name, value) => {
    const open = async () => {
      const trainer = new (native().Trainer)(model.directory, { ...defaults, [name]: value });
      await trainer.ready.finally(() => trainer.close());
    };
    await expect(open()).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
  });

  it("a directory without a model, and paths that cannot be written", async () => {
    const none = new (native().Trainer)(scratch, defaults);
    await expect(none.ready).rejects.toMatchObject({ code: "ERR_MODEL_INVALID" });
    none.close();
    await withTrainer({}, async (trainer) => {
      await expect(trainer.save(join(scratch, "no", "state"))).rejects.toMatchObject({ code: "ERR_FILE" });
      await expect(trainer.load(join(scratch, "none"))).rejects.toMatchObject({ code: "ERR_FILE" });
      await expect(trainer.export(join(scratch, "no"))).rejects.toMatchObject({ code: "ERR_FILE" });
      expect(existsSync(join(scratch, "no"))).toBe(false);
    });
  });
});

describe("close", () => {
  it("rejects what has not begun and every later call, and may be called again", async () => {
    const trainer = new (native().Trainer)(model.directory, defaults);
    await trainer.ready;
    const steps = Array.from({ length: 5 }, () => trainer.step(lists(20, 1), loss, rates));
    const outcomes = Promise.allSettled(steps);
    trainer.close();
    trainer.close();
    for (const outcome of await outcomes) {
      if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "ERR_CLOSED" });
    }
    await expect(trainer.score(lists(1, 1))).rejects.toMatchObject({ code: "ERR_CLOSED" });
  });
});
