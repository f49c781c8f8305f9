/**
 * The engine decides exactly as the replay does on the scores it would have given at full depth, and who goes on gets
 * bitwise the score of a run without exits.
 */
import { afterAll, describe, expect, it } from "vitest";
import { Random } from "../lib/eval/random.js";
import { firstStageDifficulty } from "../lib/exit/confidence.js";
import { replay } from "../lib/exit/replay.js";
import type { BudgetRule, ConfidenceRule, ExitHead, TopKRule } from "../lib/exit/rule.js";
import type { Trajectory } from "../lib/exit/trajectory.js";
import { native } from "../lib/native.js";
import type { NativeBatch, NativeOptions, NativeResult } from "../lib/native-engine.js";
import { nativeRule } from "../lib/native-rule.js";
import { makeModel } from "./fixtures/make-model.js";

const shape = { layers: 6, exitLayers: [1, 2, 4, 5, 6], hidden: 32, intermediate: 32, seed: 5 };
const model = makeModel(shape);
const compensated = makeModel({ ...shape, compensation: 3 });
afterAll(() => {
  model.remove();
  compensated.remove();
});
const LAYERS = [1, 2, 4, 5, 6];
const DEPTH = 6;

/** Lists of 1 to 40 documents of 1 to 12 random tokens each; every fifth document is a copy of the one before. */
function randomBatch(random: Random, lists: number, vocab: number): NativeBatch {
  const tokens: number[] = [];
  const cuSeqlens = [0];
  const listOffsets = [0];
  let last: number[] = [];
  for (let q = 0; q < lists; q++) {
    const m = 1 + random.integer(random.uniform() < 0.2 ? 40 : 8);
    for (let d = 0; d < m; d++) {
      if (d === 0 || random.uniform() > 0.2)
        last = Array.from({ length: 1 + random.integer(12) }, () => random.integer(vocab));
      tokens.push(...last);
      cuSeqlens.push(tokens.length);
    }
    listOffsets.push(cuSeqlens.length - 1);
  }
  return {
    tokenIds: Int32Array.from(tokens),
    cuSeqlens: Int32Array.from(cuSeqlens),
    listOffsets: Int32Array.from(listOffsets),
  };
}

function randomHeads(random: Random, spread: number): ExitHead[] {
  const layers = [1, 2, 4, 5].filter(() => random.uniform() < 0.7);
  const measured = random.uniform() < 0.5;
  return (layers.length > 0 ? layers : [2]).map((layer) => ({
    layer,
    slope: 0.5 + random.uniform(),
    offset: random.normal(),
    width: spread * (0.05 + random.uniform()),
    trend: random.uniform() < 0.5 ? 0 : random.uniform(),
    ...(measured && { spread: random.uniform() / 4 }),
  }));
}

function randomRule(random: Random, spread: number): TopKRule | BudgetRule | ConfidenceRule {
  const exits = randomHeads(random, spread);
  const kind = random.uniform();
  if (kind < 0.4) return { type: "budget", k: 1 + random.integer(6), stake: 0.02 * random.uniform() ** 2, exits };
  if (kind < 0.8) return { type: "top-k", k: 1 + random.integer(6), scale: random.uniform(), exits };
  const over = random.uniform() < 0.5 ? "pair" : "list";
  return {
    type: "confidence",
    over,
    ...(random.uniform() < 0.5 && { difficulty: { easy: random.uniform(), k: 1 + random.integer(3) } }),
    exits: exits.map(({ layer, slope, offset }) => ({
      layer,
      slope,
      offset,
      threshold: over === "pair" ? 0.5 + random.uniform() / 2 : random.uniform(),
    })),
  };
}

/** The lists of a batch as trajectories; `firstStage` is random, since only its use is tested. */
function trajectories(batch: NativeBatch, { logits, estimates, units }: NativeResult, random: Random): Trajectory[] {
  return Array.from({ length: batch.listOffsets.length - 1 }, (_, q) => {
    const [first, last] = [batch.listOffsets[q]!, batch.listOffsets[q + 1]!];
    return {
      query: `q${q}`,
      documents: Array.from({ length: last - first }, (_, d) => `d${d}`),
      tokens: Int32Array.from(
        { length: last - first },
        (_, d) => batch.cuSeqlens[first + d + 1]! - batch.cuSeqlens[first + d]!,
      ),
      scores: logits.slice(first * LAYERS.length, last * LAYERS.length),
      estimates: estimates?.slice(first * LAYERS.length, last * LAYERS.length),
      units: units?.slice(first * LAYERS.length, last * LAYERS.length),
      firstStage: Float32Array.from({ length: last - first }, () => random.normal()),
    };
  });
}

async function compare(
  options: NativeOptions,
  batches: number,
  lists: number,
  directory = model.directory,
): Promise<{ lists: number; stopped: number }> {
  const engine = new (native().Engine)(directory, options);
  try {
    const { vocab } = await engine.ready;
    const random = new Random(`${options.device} ${options.dtype} ${options.threads}`);
    let stopped = 0;
    for (let b = 0; b < batches; b++) {
      const batch = randomBatch(random, lists, vocab);
      const full = await engine.submit(batch, { depth: DEPTH, layers: LAYERS }).promise;
      const stored = trajectories(batch, full, random);
      const finals = stored.flatMap(({ scores }) => [
        ...scores.filter((_, i) => i % LAYERS.length === LAYERS.length - 1),
      ]);
      const mean = finals.reduce((sum, s) => sum + s, 0) / finals.length;
      const rule = randomRule(random, Math.sqrt(finals.reduce((sum, s) => sum + (s - mean) ** 2, 0) / finals.length));
      const difficulty =
        rule.type === "confidence" && rule.difficulty
          ? Float32Array.from(
              stored.flatMap(({ firstStage }) => [...firstStageDifficulty(firstStage!, rule.difficulty!.k)]),
            )
          : undefined;
      const early = await engine.submit(batch, { depth: DEPTH, layers: [], rule: nativeRule(rule, difficulty) })
        .promise;
      const expected = stored.flatMap((list) => [...replay(rule, list, LAYERS).exitLayers]);
      expect([...early.exitLayers], JSON.stringify(rule)).toEqual(expected);
      expected.forEach((layer, i) => {
        const at = i * LAYERS.length + LAYERS.indexOf(layer);
        expect(early.logits[at]).toBe(full.logits[at]);
        expect(early.estimates?.[at]).toBe(full.estimates?.[at]);
        if (layer < DEPTH) stopped++;
      });
    }
    return { lists: batches * lists, stopped };
  } finally {
    engine.close();
  }
}

describe("engine and replay decide alike", () => {
  it("on 1,200 random lists in f32, under rules of every kind, with one thread and two", async () => {
    for (const threads of [1, 2]) {
      const { stopped } = await compare({ device: "cpu", dtype: "f32", threads, isa: "" }, 60, 10);
      expect(stopped).toBeGreaterThan(500);
    }
  });

  it.each(["bf16", "int8"] as const)("on 200 random lists in %s, by its own scores", async (dtype) => {
    const { stopped } = await compare({ device: "cpu", dtype, threads: 2, isa: "" }, 20, 10);
    expect(stopped).toBeGreaterThan(50);
  });

  it.each(["cpu", "reference"] as const)("on 200 random lists whose exits are compensated, on %s", async (device) => {
    const options = { device, dtype: "f32", threads: 2, isa: "" } as const;
    const { stopped } = await compare(options, 20, 10, compensated.directory);
    expect(stopped).toBeGreaterThan(100);
  });

  it("on 100 random lists on the reference device", async () => {
    const { stopped } = await compare({ device: "reference", dtype: "f32", threads: 1, isa: "" }, 10, 10);
    expect(stopped).toBeGreaterThan(20);
  });
});
