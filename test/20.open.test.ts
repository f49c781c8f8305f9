/**
 * Opening a model: what it tells, and what it refuses.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { doctor } from "../lib/cli/doctor.js";
import {
  chooseDevice,
  chooseDtype,
  DEFAULT_MODEL,
  inspectModel,
  machine,
  type OpenOptions,
  Reranker,
} from "../lib/index.js";
import { type NativeGpu, native } from "../lib/native.js";
import { chooseHere, type Here, resolveOpen } from "../lib/resolve.js";
import { makeModel, type TestModel } from "./fixtures/make-model.js";

let model: TestModel;
beforeAll(() => {
  model = makeModel({ exitLayers: [2, 4] });
});
afterAll(() => model.remove());

const refused = (directory: string, code: string, options: OpenOptions = {}) =>
  expect(Reranker.open(directory, options)).rejects.toMatchObject({ name: "MatryoshkaError", code });

describe("an opened model", () => {
  it("tells what it is and what runs it", async () => {
    await using reranker = await Reranker.open(model.directory, { dtype: "f32", threads: 1 });
    expect(reranker.info).toMatchObject({
      ...{ directory: model.directory, family: "bert", layers: 4, hidden: 32, heads: 4, intermediate: 64 },
      ...{ maxTokens: 128, exitLayers: [2, 4], head: "linear", provenance: { base: "random" } },
      backend: expect.stringMatching(/^cpu f32 .* 1 thread$/),
    });
  });

  it("is the bundled one by default", async () => {
    await using reranker = await Reranker.open();
    expect(reranker.info).toMatchObject({ directory: DEFAULT_MODEL, layers: 12, hidden: 384 });
    expect(reranker.info.backend).toContain(`${availableParallelism()} thread`);
  });

  it("runs in the arithmetic and on the device it was asked for", async () => {
    await using reference = await Reranker.open(model.directory, { device: "reference" });
    expect(reference.info.backend).toContain("reference f64");
  });

  it("may be one of several", async () => {
    const others = [makeModel({ seed: 2, layers: 2 }), makeModel({ seed: 3, hidden: 16 })];
    const all = await Promise.all(
      [model, ...others].map(({ directory }) => Reranker.open(directory, { dtype: "f32" })),
    );
    const scores = await Promise.all(all.map((reranker) => reranker.rerank("panda", ["bear"])));
    expect(new Set(scores.map(({ results }) => results[0]!.logit)).size).toBe(3);
    for (const reranker of all) await reranker.close();
    for (const other of others) other.remove();
  });

  it("may have heads conditioned on the query", async () => {
    const conditioned = makeModel({ head: "query" });
    await using reranker = await Reranker.open(conditioned.directory, { dtype: "f32" });
    expect(reranker.info.head).toBe("query");
    const { results } = await reranker.rerank("panda", ["bear", "giant panda"]);
    const { logits } = await reranker.score([{ query: "panda", document: "bear" }]);
    expect(results.find(({ index }) => index === 0)!.logit).toBe(logits[4]![0]);
    conditioned.remove();
  });

  it("can be inspected without being opened", async () => {
    await using reranker = await Reranker.open(model.directory);
    const { backend, dtype, ...facts } = reranker.info;
    expect(await inspectModel(model.directory)).toEqual(facts);
    expect(backend).toContain(`cpu ${dtype}`);
  });
});

/** A machine as it might be found: nothing of it has to be here. */
function machineWith({
  gpus = [],
  features = [],
  isa = "",
}: {
  gpus?: readonly [string, number][];
  features?: string[];
  isa?: string;
} = {}): Here & { looks: number } {
  const devices = gpus.map(([name, capability], index): NativeGpu => {
    const size = { totalGiB: 80, multiprocessors: 132, clockGHz: 2, gigabytesPerSecond: 3352 };
    return { index, name, capability, ...size };
  });
  const here = {
    looks: 0,
    machine: () => ({ isas: ["avx512"], features }),
    gpus: () => {
      here.looks++;
      return { devices, reason: devices.length > 0 ? "" : "the CUDA part is not built" };
    },
    isa: () => isa,
  };
  return here;
}
const H100: [string, number] = ["H100", 90];
const T4: [string, number] = ["T4", 75];
/** Device and dtype of every engine, in words. */
const engines = (options: OpenOptions, here: Here) =>
  resolveOpen(options, here).engines.map(({ device, dtype }) => `${device} ${dtype}`);

/** Its report, or its table. */
async function doctorSays(json: boolean): Promise<unknown> {
  const said: unknown[] = [];
  const say = async (value: unknown) => void said.push(value);
  await doctor.run({ output: { json, object: say, line: say } } as unknown as Parameters<typeof doctor.run>[0]);
  return said[0];
}

describe("auto", () => {
  it("is bf16 where the processor multiplies it, else f32, with a reason", () => {
    expect(chooseDtype({ isas: [], features: [] })).toMatchObject({ dtype: "f32", reason: expect.any(String) });
    expect(chooseDtype({ isas: [], features: ["avx512_bf16"] }).dtype).toBe("bf16");
    expect(chooseDtype(machine()).reason).not.toBe("");
  });

  it("is the CPU where there is no GPU, with the reason", () => {
    expect(chooseDevice("auto", machineWith())).toEqual({
      device: "cpu",
      reason: "no GPU: the CUDA part is not built",
    });
    expect(engines({}, machineWith())).toEqual(["cpu f32"]);
    expect(engines({}, machineWith({ features: ["avx512_bf16"] }))).toEqual(["cpu bf16"]);
    expect(resolveOpen({}, machineWith())).not.toHaveProperty("fallback");
  });

  it("is the first GPU of compute capability 8.0 or later, in bf16", () => {
    expect(engines({}, machineWith({ gpus: [H100, H100] }))).toEqual(["cuda:0 bf16"]);
    expect(engines({}, machineWith({ gpus: [T4, ["A100", 80]] }))).toEqual(["cuda:1 bf16"]);
    expect(chooseHere(machineWith({ gpus: [T4, H100] }))).toMatchObject({
      device: { device: "cuda:1", reason: expect.stringContaining("cuda:1 H100, compute capability 9.0") },
      dtype: { dtype: "bf16", reason: expect.stringContaining("f16 has no certificates") },
    });
  });

  it("is the CPU where all GPUs are older, and names them", () => {
    expect(engines({}, machineWith({ gpus: [T4] }))).toEqual(["cpu f32"]);
    expect(chooseDevice("auto", machineWith({ gpus: [T4] })).reason).toContain("cuda:0 T4, compute capability 7.5");
  });

  it("is a device that computes in the dtype that was asked for", () => {
    const gpu = { gpus: [H100] };
    expect(engines({ dtype: "f16" }, machineWith(gpu))).toEqual(["cuda:0 f16"]);
    expect(engines({ dtype: "f32" }, machineWith(gpu))).toEqual(["cuda:0 f32"]);
    expect(engines({ dtype: "int8" }, machineWith(gpu))).toEqual(["cpu int8"]);
    expect(() => resolveOpen({ dtype: "f16" }, machineWith())).toThrow(/all the cpu device computes in/);
  });

  it("is the CPU where an instruction set is forced", () => {
    const here = machineWith({ gpus: [H100], isa: "avx2" });
    expect(resolveOpen({}, here).engines).toMatchObject([{ device: "cpu", isa: "avx2" }]);
    expect(chooseDevice("auto", here).reason).toContain("MATRYOSHKA_ISA=avx2");
  });

  it("as a dtype is bf16 on GPUs asked for by name, where all of them multiply it, else f32", () => {
    const both = machineWith({ gpus: [H100, T4] });
    expect(engines({ device: "cuda" }, both)).toEqual(["cuda bf16"]);
    expect(engines({ device: "cuda:1" }, both)).toEqual(["cuda:1 f32"]);
    expect(engines({ device: "cuda:0,1" }, both)).toEqual(["cuda:0 f32", "cuda:1 f32"]);
    expect(engines({ device: "cuda:5" }, both)).toEqual(["cuda:5 f32"]);
    expect(engines({ device: "emulator" }, both)).toEqual(["emulator f32"]);
  });

  it("looks for GPUs only where they matter", () => {
    const here = machineWith({ gpus: [H100] });
    for (const options of [
      { device: "cpu" },
      { device: "emulator" },
      { device: "reference" },
      { device: "cuda:0", dtype: "f16" },
      { dtype: "int8" },
    ] as const)
      resolveOpen(options, here);
    expect(here.looks).toBe(0);
  });

  it("keeps the CPU in reserve where it chose a GPU, in what the CPU would have computed in", () => {
    const here = machineWith({ gpus: [H100] });
    expect(resolveOpen({ threads: 3 }, here).fallback).toMatchObject({
      dtype: "f32",
      engines: [{ device: "cpu", dtype: "f32", threads: 3 }],
    });
    expect(resolveOpen({ dtype: "bf16" }, here).fallback).toMatchObject({ dtype: "bf16" });
    expect(resolveOpen({ dtype: "f16" }, here)).not.toHaveProperty("fallback");
    expect(resolveOpen({ device: "cuda:0" }, here)).not.toHaveProperty("fallback");
  });

  describe("on a machine whose GPU does not take the model", () => {
    /** No machine has so many. */
    const broken = () =>
      vi.spyOn(native(), "gpus").mockReturnValue({
        ...{ reason: "", object: "matryoshka_cuda.so", toolkit: 13000, driver: 13000 },
        devices: [{ ...machineWith({ gpus: [H100] }).gpus().devices[0]!, index: 999 }],
      });
    afterEach(() => void vi.restoreAllMocks());

    it("goes on to the CPU, which a GPU asked for by name does not", async () => {
      broken();
      expect(resolveOpen({}).engines).toMatchObject([{ device: "cuda:999", dtype: "bf16" }]);
      await using reranker = await Reranker.open(model.directory);
      expect(reranker.info).toMatchObject({
        backend: expect.stringMatching(/^cpu /),
        dtype: chooseDtype(machine()).dtype,
      });
      await refused(model.directory, "ERR_UNSUPPORTED_DEVICE", { device: "cuda:999" });
      await refused(model.directory, "ERR_UNSUPPORTED_DEVICE", { dtype: "f16" });
      await refused("/nowhere/at/all", "ERR_MODEL_NOT_FOUND");
    });

    it("is told so by the doctor", async () => {
      broken();
      const report = (await doctorSays(true)) as {
        device: object;
        selfTest: { device: string; dtype: string; state: string }[];
      };
      const said = await doctorSays(false);
      const reason = expect.stringMatching(/^cuda:999 was chosen but does not open the bundled model: Expected/);
      expect(report.device).toMatchObject({ chosen: "cpu", reason });
      expect(report.selfTest.map(({ device, dtype, state }) => `${device} ${dtype} ${state}`)).toEqual([
        ...["cpu f32 passed", "cpu bf16 passed", "cpu int8 passed"],
        ...["cuda:999 f32 unopened", "cuda:999 bf16 unopened", "cuda:999 f16 unopened"],
      ]);
      expect(said).toMatch(/gpus +cuda:999 H100, 80\.0 GiB/);
      expect(said).toMatch(/self-test f16 +not run, the model does not open on cuda:999: Expected/);
    });

    it("never fails at looking", async () => {
      vi.spyOn(native(), "gpus").mockImplementation(() => {
        throw new Error("the driver hangs up");
      });
      expect(chooseDevice()).toEqual({ device: "cpu", reason: "no GPU: the driver hangs up" });
    });
  });
});

describe("a model is refused", () => {
  let copy: string;
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), "matryoshka-broken-"));
  });
  afterAll(() => rmSync(copy, { recursive: true }));
  /** A fresh copy with one file changed; undefined removes it. */
  const broken = (file: string, change: (content: Buffer) => Buffer | string | undefined) => {
    rmSync(copy, { recursive: true });
    cpSync(model.directory, copy, { recursive: true });
    const content = change(readFileSync(join(copy, file)));
    if (content === undefined) rmSync(join(copy, file));
    else writeFileSync(join(copy, file), content);
    return copy;
  };
  const config = (change: object) =>
    broken("config.json", (content) => JSON.stringify({ ...JSON.parse(content.toString()), ...change }));

  it("where its directory is missing, or not a model", async () => {
    await refused("/nowhere/at/all", "ERR_MODEL_NOT_FOUND");
    await refused(tmpdir(), "ERR_MODEL_INVALID");
    await refused("", "ERR_INVALID_ARGUMENT");
    await refused(3 as unknown as string, "ERR_INVALID_ARGUMENT");
    await expect(inspectModel("/nowhere/at/all")).rejects.toMatchObject({ code: "ERR_MODEL_NOT_FOUND" });
  });

  it("where the architecture is one the engine does not run", async () => {
    await refused(config({ model_type: "t5" }), "ERR_UNSUPPORTED_ARCHITECTURE");
  });

  it("where config and tensors disagree", async () => {
    await refused(config({ num_hidden_layers: 5 }), "ERR_CONFIG_INVALID").catch(() =>
      refused(copy, "ERR_TENSOR_MISSING"),
    );
    await refused(config({ intermediate_size: 65 }), "ERR_TENSOR_SHAPE");
  });

  it("where its weights are cut off, or claim a header of 2^60 bytes", async () => {
    await refused(
      broken("model.safetensors", (content) => content.subarray(0, content.length - 100)),
      "ERR_SAFETENSORS_INVALID",
    );
    const huge = broken("model.safetensors", (content) => {
      content.writeBigUInt64LE(1n << 60n);
      return content;
    });
    await refused(huge, "ERR_SAFETENSORS_INVALID");
  });

  it("where a weight is not a number", async () => {
    const nan = broken("model.safetensors", (content) => {
      content.writeFloatLE(Number.NaN, content.length - 4);
      return content;
    });
    await refused(nan, "ERR_TENSOR_NOT_FINITE");
  });

  it("where the tokenizer is missing, unreadable, or of another model", async () => {
    await refused(
      broken("tokenizer.json", () => undefined),
      "ERR_MODEL_INVALID",
    );
    await refused(
      broken("tokenizer.json", () => "{"),
      "ERR_MODEL_INVALID",
    );
    await refused(
      broken("tokenizer.json", (content) => {
        const json = JSON.parse(content.toString());
        json.added_tokens.push({ id: 100_000, content: "[X]", special: true });
        return JSON.stringify(json);
      }),
      "ERR_MODEL_INVALID",
    );
  });

  it("where an option is wrong, before any file is read", async () => {
    await refused("/nowhere", "ERR_UNKNOWN_OPTION", { devise: "cpu" } as OpenOptions);
    await refused("/nowhere", "ERR_INVALID_ARGUMENT", { threads: 0 });
    await refused("/nowhere", "ERR_UNSUPPORTED_DTYPE", { device: "reference", dtype: "bf16" });
  });
});
