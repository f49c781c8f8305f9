/**
 * The roofline's account of a layer agrees with what the package counts as its cost.
 */
import { describe, expect, it } from "vitest";
import { kernels, lowerBound } from "../bench/roofline-model.js";
import { blockFlops } from "../lib/exit/cost.js";

const shape = { layers: 12, hidden: 384, intermediate: 1536 };
const tokens = Int32Array.of(105, 17, 418, 64);
const counted = {
  bytes: new Map([
    ["attention", 1000],
    ["gemm 384 x 1536", 5000],
  ]),
  tokens: 302,
};

describe("the roofline of a layer", () => {
  const layer = kernels(shape, tokens, counted);

  it("has the operations that computeFraction is a share of", () => {
    const flops = layer.reduce((sum, kernel) => sum + kernel.flops, 0);
    expect(flops).toBe(tokens.reduce((sum, n) => sum + blockFlops(shape, n), 0));
  });

  it("scales what the emulator counted by tokens", () => {
    const total = tokens.reduce((sum, n) => sum + n, 0);
    expect(layer.find(({ name }) => name === "attention")!.asked).toBe((1000 * total) / 302);
    expect(layer.find(({ name }) => name === "MLP down")!.asked).toBe((5000 * total) / 302);
  });

  it("takes the larger of arithmetic and memory", () => {
    const kernel = { name: "", kernel: "", flops: 2e9, compulsory: 1e6, asked: 2e6 };
    expect(lowerBound(kernel, { tflops: 100, gbs: 1000 })).toEqual({ microseconds: 20, by: "arithmetic" });
    expect(lowerBound(kernel, { tflops: 100, gbs: 10 })).toEqual({ microseconds: 100, by: "memory" });
  });
});
