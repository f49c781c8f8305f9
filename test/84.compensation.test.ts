/**
 * Compensation: what an exit says of the final score and how sure it is, trained with the model left alone.
 */
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type ExitData, fitCompensationNetwork, ListLoss } from "../lib/compensate/fit.js";
import { CompensationNetwork, type CompensationTensors } from "../lib/compensate/network.js";
import { writeCompensation } from "../lib/compensate/write.js";
import { Random } from "../lib/eval/random.js";
import { Reranker } from "../lib/index.js";
import { makeBeir } from "./fixtures/beir.js";
import { matryoshka } from "./fixtures/cli.js";
import { makeModel } from "./fixtures/make-model.js";

const HIDDEN = 12;

/** Lists whose final score is 2 · logit + a direction of the state, with noise e^(another direction). */
function data(lists: number, seed: string): ExitData & { readonly deviations: Float64Array } {
  const random = new Random(seed);
  const n = lists * 10;
  const states = Float32Array.from({ length: n * HIDDEN }, () => 3 + 2 * random.normal());
  const logits = Float32Array.from({ length: n }, () => random.normal());
  const direction = (row: number, at: number) => (states[row * HIDDEN + at]! - 3) / 2;
  const deviations = Float64Array.from({ length: n }, (_, i) => Math.exp(direction(i, 1)));
  const common = Array.from({ length: lists }, () => 5 * random.normal());
  const finals = Float32Array.from(
    { length: n },
    (_, i) =>
      2 * logits[i]! +
      Math.tanh(direction(i, 0)) +
      common[Math.floor(i / 10)]! +
      0.3 * deviations[i]! * random.normal(),
  );
  const offsets = Int32Array.from({ length: lists + 1 }, (_, i) => i * 10);
  return { states, logits, finals, offsets, hidden: HIDDEN, deviations };
}

/** What the engine computes, in double. */
function apply({ hidden, output }: CompensationTensors, state: Float32Array, logit: number): [number, number] {
  const units = hidden?.bias.length ?? 0;
  const z = Array.from(hidden?.bias ?? [], (bias, m) =>
    Math.tanh(state.reduce((sum, x, i) => sum + x * hidden!.weight[m * state.length + i]!, bias)),
  );
  const row = (r: number) =>
    [...z, logit].reduce((sum, x, m) => sum + x * output.weight[r * (units + 1) + m]!, output.bias[r]!);
  return [row(0), Math.exp(Math.min(6, Math.max(-6, row(1))))];
}

function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const mean = (v: ArrayLike<number>) => Array.from(v).reduce((sum, x) => sum + x, 0) / v.length;
  const [ma, mb] = [mean(a), mean(b)];
  let [aa, bb, ab] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    aa += (a[i]! - ma) ** 2;
    bb += (b[i]! - mb) ** 2;
    ab += (a[i]! - ma) * (b[i]! - mb);
  }
  return ab / Math.sqrt(aa * bb);
}

describe("training", () => {
  it.each([0, 3])("has the gradient that finite differences give, with %i hidden units", (units) => {
    const own = data(3, "gradient");
    const network = new CompensationNetwork(HIDDEN, units, 1);
    const random = new Random("weights");
    network.weights.forEach((_, i) => {
      network.weights[i] = 0.2 * random.normal();
    });
    const loss = new ListLoss(network, own, 0.05);
    for (const list of [0, 1, 2]) loss.addGradient(list);
    network.weights.forEach((weight, i) => {
      const at = (value: number) => {
        network.weights[i] = value;
        const mean = loss.mean([0, 1, 2]) * 3;
        network.weights[i] = weight;
        return mean;
      };
      const numeric = (at(weight + 1e-5) - at(weight - 1e-5)) / 2e-5;
      expect(Math.abs(network.gradient[i]! - numeric)).toBeLessThan(1e-6 * Math.max(1, Math.abs(numeric)));
    });
  });

  it("finds who is uncertain from the state, and what the state adds to the logit", async () => {
    const { tensors, before, after } = await fitCompensationNetwork(data(200, "train"), { units: 8, seed: 1 });
    expect(after).toBeLessThan(before - 0.2);
    const test = data(100, "test");
    const said = Array.from(test.logits, (logit, i) =>
      apply(tensors, test.states.subarray(i * HIDDEN, (i + 1) * HIDDEN), logit),
    );
    expect(
      correlation(
        said.map(([, unit]) => Math.log(unit)),
        test.deviations.map(Math.log),
      ),
    ).toBeGreaterThan(0.8);
    const centred = (values: ArrayLike<number>) =>
      Array.from(values, (x, i) => x - test.finals[i]!).map((x, i, all) => {
        const list = all.slice(i - (i % 10), i - (i % 10) + 10);
        return x - list.reduce((sum, y) => sum + y, 0) / 10;
      });
    const error = (values: ArrayLike<number>) => centred(values).reduce((sum, x) => sum + Math.abs(x), 0);
    expect(error(said.map(([estimate]) => estimate))).toBeLessThan(0.8 * error(test.logits.map((s) => 2 * s)));
  });

  it("is the same for the same seed", async () => {
    const once = () => fitCompensationNetwork(data(30, "train"), { units: 4, seed: 7 });
    expect(await once()).toEqual(await once());
  });

  it("without hidden units learns the slope, and one unit where the logit says nothing of the noise", async () => {
    const { tensors } = await fitCompensationNetwork(data(200, "train"), { units: 0, seed: 1 });
    expect(tensors.hidden).toBeUndefined();
    expect(tensors.output.weight[0]).toBeCloseTo(2, 1);
    expect(Math.abs(tensors.output.weight[1]!)).toBeLessThan(0.15);
  });
});

describe("the compensate command", () => {
  const model = makeModel({ layers: 3 });
  const beir = makeBeir({ queries: 30, documents: 100, candidates: 12 });
  afterAll(() => {
    model.remove();
    beir.remove();
  });
  const source = ["--model", model.directory, "--data", beir.directory, "--run", beir.run, "--dtype", "f32"];

  it("writes networks that the engine applies as they were trained, and leaves the scores alone", async () => {
    const pairs = [
      { query: "abc def", document: "ghi jkl abc" },
      { query: "abc def", document: "mno" },
    ];
    const before = await score(model.directory, pairs);
    expect(before.estimates).toBeUndefined();
    const { code, stdout } = await matryoshka(["compensate", ...source, "--units", "4", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ kind: "mlp", lists: 30, exits: [{ layer: 1 }, { layer: 2 }] });
    const after = await score(model.directory, pairs);
    expect(after.logits).toEqual(before.logits);
    expect(after.estimates![3]).toEqual(before.logits[3]);
    expect(after.units![3]).toEqual(Float32Array.of(1, 1));
    const tensors = stored(model.directory);
    for (const layer of [1, 2]) {
      for (const d of [0, 1]) {
        const state = after.states![layer]!.subarray(d * 32, (d + 1) * 32);
        const [estimate, unit] = apply(tensors(layer), state, after.logits[layer]![d]!);
        expect(after.estimates![layer]![d]).toBeCloseTo(estimate, 4);
        expect(after.units![layer]![d]).toBeCloseTo(unit, 4);
      }
    }
  });

  it("removes certificates, which were made for other estimates, and itself with --kind none", async () => {
    const { code, stderr } = await matryoshka(["calibrate", ...source, "--k", "2", "--alpha", "0.4", "--delta", "0.4"]);
    expect(stderr + code).toContain("Written");
    expect(JSON.parse(readFileSync(join(model.directory, "matryoshka.json"), "utf8")).certificates).toHaveLength(1);
    await matryoshka(["compensate", "--model", model.directory, "--kind", "none"]);
    expect(JSON.parse(readFileSync(join(model.directory, "matryoshka.json"), "utf8"))).toMatchObject({
      compensation: "none",
    });
    expect(readFileSync(join(model.directory, "matryoshka.json"), "utf8")).not.toContain("certificates");
    expect((await score(model.directory, [{ query: "a", document: "b" }])).estimates).toBeUndefined();
  });

  it.each([
    [["--kind", "linear"], 2, /--kind needs mlp, affine, none, got "linear"/],
    [["--lists", "5"], 2, /--lists needs at least 20, got 5/],
    [["--kind", "affine", "--units", "3"], 2, /--units needs --kind mlp/],
    [["--candidates", "1"], 1, /Expected at least 20 queries of two candidates or more/],
  ])("refuses %j", async (options, code, message) => {
    const result = await matryoshka(["compensate", ...source, ...options]);
    expect(result.stderr).toMatch(message);
    expect(result.code).toBe(code);
  });

  it("leaves a model as it was when it cannot write", async () => {
    const heads = new Map([[1, { output: { weight: new Float32Array(2), bias: new Float32Array(2) } }]]);
    await expect(writeCompensation(join(model.directory, "nowhere"), heads, "affine", {})).rejects.toMatchObject({
      code: "ERR_FILE",
    });
    const files = ["matryoshka.json", "matryoshka.safetensors"].map((name) => join(model.directory, name));
    const contents = () => files.map((file) => readFileSync(file, "base64"));
    const before = contents();
    // Where the second of the files is put before it takes its place.
    const blocked = `${files[1]}.${process.pid}.1.tmp`;
    mkdirSync(blocked);
    await expect(writeCompensation(model.directory, heads, "affine", {})).rejects.toMatchObject({ code: "ERR_FILE" });
    expect(contents()).toEqual(before);
    rmSync(blocked, { recursive: true, force: true });
  });
});

async function score(directory: string, pairs: { query: string; document: string }[]) {
  await using reranker = await Reranker.open(directory, { dtype: "f32" });
  return await reranker.score(pairs, { states: true });
}

/** Tensors of an exit's compensation, as they lie in the file. */
function stored(directory: string): (layer: number) => CompensationTensors {
  const file = readFileSync(join(directory, "matryoshka.safetensors"));
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, start));
  const read = (name: string) => {
    const [first, last] = header[name].data_offsets;
    return Float32Array.from({ length: (last - first) / 4 }, (_, i) => file.readFloatLE(start + first + i * 4));
  };
  return (layer) => {
    const linear = (name: string) => ({
      weight: read(`compensation.${layer}.${name}.weight`),
      bias: read(`compensation.${layer}.${name}.bias`),
    });
    return { hidden: linear("hidden"), output: linear("output") };
  };
}
