/**
 * Training on the GPU's kernels, on the emulator and, with MATRYOSHKA_TEST_GPU=1, on every GPU that is here: the CPU's
 * losses and gradients to bf16's precision, the same bits every time, and what a GPU does not train in refused.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Random } from "../lib/eval/random.js";
import { native } from "../lib/native.js";
import type {
  NativeLoss,
  NativeTrainBatch,
  NativeTrainer,
  NativeTrainerOptions,
  TrainDevice,
} from "../lib/native-trainer.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

const gpus = process.env.MATRYOSHKA_TEST_GPU ? native().gpus().devices : [];
const devices: readonly TrainDevice[] = ["emulator", ...gpus.map(({ index }) => `cuda:${index}` as const)];

const models: Record<"linear" | "query", TestModel> = {} as never;
beforeAll(() => {
  for (const head of ["linear", "query"] as const)
    models[head] = makeModel({ layers: 2, hidden: 64, heads: 2, intermediate: 128, head, seed: 6 });
});
afterAll(() => {
  for (const model of Object.values(models)) model.remove();
});

const defaults: NativeTrainerOptions = {
  ...{
    device: "cpu",
    threads: 2,
    dtype: "bf16",
    isa: "",
    seed: 1,
    turnTokens: 150,
    recompute: false,
    layerDropout: 0.2,
  },
  ...{ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clip: 1 },
};
const loss: NativeLoss = {
  exitWeights: [1, 1],
  rank: 1,
  binary: 0.2,
  teachers: [],
  distill: { weight: 0.5, temperature: 1, direction: "forward", anchors: [] },
};

/** Three lists of four pairs: a query of two tokens, a separator, and documents that end with it; the first is relevant. */
function batch(seed: number): NativeTrainBatch {
  const random = new Random(seed);
  const word = () => 5 + random.integer(15);
  const query = [2, word(), word(), 3];
  const pairs = Array.from({ length: 12 }, () => [
    ...query,
    ...Array.from({ length: 1 + random.integer(20) }, word),
    3,
  ]);
  const starts = [0];
  for (const pair of pairs) starts.push(starts.at(-1)! + pair.length);
  return {
    tokenIds: Int32Array.from(pairs.flat()),
    typeIds: Int32Array.from(pairs.flatMap((pair) => pair.map((_, i) => Number(i >= query.length)))),
    cuSeqlens: Int32Array.from(starts),
    listOffsets: Int32Array.of(0, 4, 8, 12),
    labels: Float32Array.from(pairs, (_, i) => Number(i % 4 === 0)),
  };
}

async function trained(options: Partial<NativeTrainerOptions>, head: "linear" | "query") {
  const trainer: NativeTrainer = new (native().Trainer)(models[head].directory, { ...defaults, ...options });
  try {
    const { backend } = await trainer.ready;
    const steps = [];
    for (let i = 0; i < 4; i++) steps.push(await trainer.step(batch(i), loss, { encoder: 1e-3, heads: 2e-3 }));
    return { backend, steps, scores: await trainer.score(batch(9)) };
  } finally {
    trainer.close();
  }
}

describe.each(devices)("training on %s", (device) => {
  it.each(["linear", "query"] as const)("goes the CPU's way with %s heads", { timeout: 120_000 }, async (head) => {
    const there = await trained({ device }, head);
    const here = await trained({ dtype: "f32" }, head);
    expect(there.backend).toMatch(device === "emulator" ? /^train emulator bf16$/ : /^train cuda:\d+ .* bf16$/);
    for (const [i, step] of there.steps.entries()) {
      expect(step).toMatchObject({ applied: true, step: i + 1, tokens: here.steps[i]!.tokens });
      expect(Math.abs(step.loss / here.steps[i]!.loss - 1)).toBeLessThan(0.02);
      expect(Math.abs(step.gradNorm / here.steps[i]!.gradNorm - 1)).toBeLessThan(0.03);
    }
  });

  it("repeats itself to the bit, on any number of threads", { timeout: 120_000 }, async () => {
    const one = await trained({ device, threads: 1 }, "query");
    const three = await trained({ device, threads: 3 }, "query");
    expect(three.scores).toEqual(one.scores);
    expect(three.steps.map(({ gradNorm }) => gradNorm)).toEqual(one.steps.map(({ gradNorm }) => gradNorm));
  });

  it("is refused in f32, with recomputed activations, and where no kernel has the model's sizes", async () => {
    const open = async (options: Partial<NativeTrainerOptions>, directory = models.linear.directory) => {
      const trainer = new (native().Trainer)(directory, { ...defaults, device, ...options });
      await trainer.ready.finally(() => trainer.close());
    };
    await expect(open({ dtype: "f32" })).rejects.toMatchObject({ code: "ERR_UNSUPPORTED_DTYPE" });
    await expect(open({ recompute: true })).rejects.toMatchObject({ code: "ERR_INVALID_ARGUMENT" });
    const narrow = makeModel({ hidden: 32, heads: 4 });
    await expect(open({}, narrow.directory)).rejects.toMatchObject({ code: "ERR_UNSUPPORTED_ARCHITECTURE" });
    narrow.remove();
  });
});

if (gpus.length === 0)
  it("is refused on a GPU where there is none", async () => {
    const trainer = new (native().Trainer)(models.linear.directory, { ...defaults, device: "cuda:99" });
    await expect(trainer.ready).rejects.toMatchObject({ code: "ERR_UNSUPPORTED_DEVICE" });
    trainer.close();
  });
