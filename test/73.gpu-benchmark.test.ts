/**
 * `npm run bench:gpu` from end to end on the emulator, and what it makes of a GPU's figures: peaks, kernels against the
 * roofline, and that a host which comes between is found out.
 */
import { afterAll, describe, expect, it } from "vitest";
import { measure } from "../bench/gpu-measure.js";
import { type Gpu, kernelMilliseconds, kernelTable, kernelTimes, peakOf, roundTrips } from "../bench/gpu-report.js";
import { kernels } from "../bench/roofline-model.js";
import { Reranker } from "../lib/index.js";
import { native } from "../lib/native.js";
import { makeModel } from "./fixtures/make-model.js";

const a100: Gpu = {
  name: "NVIDIA A100-SXM4-80GB",
  capability: 80,
  multiprocessors: 108,
  clockGHz: 1.41,
  gigabytesPerSecond: 2039,
};
const model = makeModel({ layers: 3, hidden: 64, intermediate: 128, heads: 2 });
afterAll(() => model.remove());

const lengths = [30, 7, 1, 64];
const starts = [0, 30, 37, 38, 102];
const batch = {
  tokenIds: Int32Array.from({ length: 102 }, (_, i) => 5 + (i % 20)),
  cuSeqlens: Int32Array.from(starts),
  listOffsets: Int32Array.of(0, 4),
};
const work = kernels({ hidden: 64, intermediate: 128 }, Int32Array.from(lengths), { bytes: new Map(), tokens: 1 });

describe("the GPU benchmark", () => {
  it.each(["f16", "f32"] as const)("measures everything on the emulator in %s", async (dtype) => {
    const lines: string[] = [];
    await using reranker = await Reranker.open(model.directory, { device: "emulator", dtype });
    await measure({
      model: reranker,
      device: "emulator",
      dtype,
      gpu: a100,
      query: "w1 w2",
      documents: ["w1 w3", "w2", "w4 w5 w6"],
      batch,
      rounds: 1,
      trace: native().trace,
      print: (line) => lines.push(line),
    });
    const said = lines.join("\n");
    for (const layer of [1, 2, 3]) expect(said).toMatch(new RegExp(`^layer ${layer} +[\\d.]+ ms +\\d+ pairs/s$`, "m"));
    expect(said).toMatch(/^confidence above 0\.6 .* 0\.\d\d of the operations, \d+\.\d\d of the time$/m);
    expect(said).toMatch(/^8 requests in a row .* pairs\/s/m);
    // Two whole layers of 8 launches, the last one's keys and values, 7 of its scoring rows, embedding, gathering, head.
    expect(said).toContain("asks for upload, 27 launches");
    expect(said).toMatch(/each timed alone: \d+\.\d\d ms/);
    expect(said.includes("The roofline: 312 TFLOP/s, 2039 GB/s")).toBe(dtype === "f16");
    if (dtype === "f16") expect(said).toMatch(/^\| attention \| 1 \| [\d.]+ \| [\d.]+ \| memory \| [\d.]+ % \|$/m);
  });

  it("takes a GPU's peaks from its own clocks, as the data sheets have them", () => {
    const gpu = (name: string, capability: number, multiprocessors: number, clockGHz: number) =>
      peakOf({ name, capability, multiprocessors, clockGHz, gigabytesPerSecond: 1 })!.tflops;
    expect(peakOf(a100)!.tflops).toBeCloseTo(312, 0);
    expect(gpu("Tesla T4", 75, 40, 1.59)).toBeCloseTo(65, 0);
    expect(gpu("NVIDIA L4", 89, 58, 2.04)).toBeCloseTo(121, 0);
    expect(gpu("NVIDIA GeForce RTX 4090", 89, 128, 2.52)).toBeCloseTo(165.2, 0);
    expect(gpu("NVIDIA H100 80GB HBM3", 90, 132, 1.83)).toBeCloseTo(989.4, 0);
    expect(peakOf({ ...a100, capability: 101 })).toBeUndefined();
    expect(peakOf({ ...a100, gigabytesPerSecond: 0 })).toBeUndefined();
  });

  it("averages a kernel over whole layers, each launch at its median", () => {
    const names = ["embed", "attention", "attention", "attention"];
    // The third attention is a peek; the first pass stumbles.
    const milliseconds = [Float32Array.of(1, 90, 4, 0.5), Float32Array.of(1, 2, 4, 0.5), Float32Array.of(1, 2, 4, 0.5)];
    const trace = { calls: [], kernels: names, milliseconds };
    const attention = kernelTimes(trace, work, 3, { tflops: 1e-3, gbs: 1e9 }).find(({ name }) => name === "attention")!;
    expect(attention).toMatchObject({ launches: 1, microseconds: 3000, bound: { by: "arithmetic" } });
    expect(attention.bound!.microseconds).toBeCloseTo((4 * 64 * (30 ** 2 + 7 ** 2 + 1 + 64 ** 2)) / 1e3);
    expect(kernelMilliseconds(trace)).toBe(7.5);
    expect(kernelTable(kernelTimes(trace, work, 3, undefined)).join("\n")).toContain(
      "| attention | 1 | 3000.0 | unknown |",
    );
  });

  it("finds out a host that comes between", () => {
    const fine = ["upload", "run", "embed", "attention", "download", "mark", "wait"];
    expect(roundTrips(fine)).toBeUndefined();
    for (const call of ["wait", "download", "upload", "run", "allocate"])
      for (let at = 0; at <= fine.length; at++)
        expect(roundTrips(fine.toSpliced(at, 0, call)), `${call} at ${at}`).toMatch(/^Expected upload/);
    expect(roundTrips(["upload", "run", "download", "mark", "embed", "wait"])).toMatch(/^Expected upload/);
    expect(roundTrips([])).toMatch(/^Expected upload/);
  });
});
