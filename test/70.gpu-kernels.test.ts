/**
 * The GPU's kernels, on the emulator and, with MATRYOSHKA_TEST_GPU=1 (`npm run test:gpu`), on every GPU that is here: golden
 * scores, the CPU's exits, the same bits with exits and without.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Reranker } from "../lib/index.js";
import { native } from "../lib/native.js";
import type { Device } from "../lib/types.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";
import { goldens } from "./fixtures/shared.js";

/**
 * Of a layer's largest score: f32 as in 31.goldens; the others twice what PyTorch 2, computing in the same dtype on a CPU,
 * is off by on the same set.
 */
const TOLERANCE: Readonly<Record<string, Readonly<Record<"f32" | "bf16" | "f16", number>>>> = {
  bert: { f32: 1e-5, bf16: 2 * 0.0157, f16: 2 * 1.6e-3 },
  "xlm-roberta": { f32: 1e-5, bf16: 2 * 0.117, f16: 2 * 0.0103 },
};

const gpus = process.env.MATRYOSHKA_TEST_GPU ? native().gpus().devices : [];
const devices: readonly Device[] = ["emulator", ...gpus.map(({ index }) => `cuda:${index}` as const)];

if (process.env.MATRYOSHKA_TEST_GPU)
  it("cuda: there is a GPU to test", () =>
    expect(native().gpus().devices.length, native().gpus().reason).toBeGreaterThan(0));

describe.each(devices)("golden scores on %s", (device) => {
  for (const golden of goldens().filter(({ name }) => name in TOLERANCE))
    for (const dtype of ["f32", "bf16", "f16"] as const)
      it(`of ${golden.name} hold in ${dtype}`, { timeout: 120_000 }, async () => {
        await using reranker = await Reranker.open(golden.directory, { device, dtype });
        const pairs = golden.cases.map(({ query, passage }) => ({ query, document: passage }));
        const { layers, logits } = await reranker.score(pairs, { maxLength: golden.max_length });
        let worst = 0;
        for (const layer of layers) {
          const expected = golden.cases.map(({ scores }) => scores[layer]!);
          const scale = Math.max(...expected.map(Math.abs));
          worst = Math.max(worst, ...expected.map((score, i) => Math.abs(logits[layer]![i]! - score) / scale));
        }
        console.log(`${golden.name} on ${device} in ${dtype}: largest relative difference ${worst.toExponential(1)}`);
        expect(worst).toBeLessThanOrEqual(TOLERANCE[golden.name]![dtype]);
      });

  if (goldens().length === 0) it.skip("need a folder of golden sets");
});

describe.each(devices)("a reranker on %s", (device) => {
  let model: TestModel;
  beforeAll(() => {
    model = makeModel({ layers: 3, seed: 4 });
  });
  afterAll(() => model.remove());
  const documents = Array.from({ length: 12 }, (_, i) => `w${i} ${"w1 w2 w3 ".repeat(i % 4)}`);

  it("says what it runs on, and ranks as the CPU does", async () => {
    await using onDevice = await Reranker.open(model.directory, { device, dtype: "f32" });
    await using cpu = await Reranker.open(model.directory, { device: "cpu", dtype: "f32" });
    expect(onDevice.info.backend).toMatch(device === "emulator" ? /^emulator f32$/ : /^cuda:\d+ .* f32$/);
    const there = await onDevice.rerank("w1 w2", documents);
    const here = await cpu.rerank("w1 w2", documents);
    expect(there.results.map(({ index }) => index)).toEqual(here.results.map(({ index }) => index));
    for (const [i, { logit }] of there.results.entries()) expect(logit).toBeCloseTo(here.results[i]!.logit, 4);
  });

  it("stops documents early, where the CPU stops them, and survivors keep their scores to the bit", async () => {
    const exit = { type: "confidence", thresholds: { 1: 0.8, 2: 0.7 } } as const;
    await using onDevice = await Reranker.open(model.directory, { device, dtype: "f32" });
    await using cpu = await Reranker.open(model.directory, { device: "cpu", dtype: "f32" });
    const byIndex = (results: readonly { index: number; exitLayer: number }[]) =>
      Object.fromEntries(results.map(({ index, exitLayer }) => [index, exitLayer]));
    const full = await onDevice.rerank("w1 w2", documents);
    const exact = new Map(full.results.map(({ index, logit }) => [index, logit]));
    const there = await onDevice.rerank("w1 w2", documents, { exit });
    const here = await cpu.rerank("w1 w2", documents, { exit });
    expect(byIndex(there.results)).toEqual(byIndex(here.results));
    expect(there.results.some((r) => r.exitLayer < 3)).toBe(true);
    for (const { index, exitLayer, logit } of there.results) if (exitLayer === 3) expect(logit).toBe(exact.get(index));
  });

  it("refuses what the kernels do not compute in, and f16 on the CPU", async () => {
    const open = (options: object) => Reranker.open(model.directory, options);
    await expect(open({ device, dtype: "int8" })).rejects.toMatchObject({ code: "ERR_UNSUPPORTED_DTYPE" });
    await expect(open({ device: "cpu", dtype: "f16" })).rejects.toMatchObject({ code: "ERR_UNSUPPORTED_DTYPE" });
  });
});
