/**
 * `matryoshka train` as its users meet it: real processes, killed, stopped, out of space and badly configured.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { lock } from "../lib/cli/lock.js";
import { Random } from "../lib/eval/random.js";
import { Reranker } from "../lib/index.js";
import { latestCheckpoint } from "../lib/train/checkpoint.js";
import { makeEncoder } from "../lib/train/encode.js";
import { readLog } from "../lib/train/log.js";
import { checkpointsPath, logPath } from "../lib/train/loop.js";
import { openTrainer } from "../lib/train/trainer.js";
import type { TrainConfig } from "../lib/train/types.js";
import { makeBeir } from "./fixtures/beir.js";
import { type Finished, finished, matryoshka, start } from "./fixtures/cli.js";
import { makeModel } from "./fixtures/make-model.js";

const STEPS = 240;
const model = makeModel({ layers: 3 });
const beir = makeBeir({ queries: 20, documents: 100, candidates: 12 });
const scratch = mkdtempSync(join(tmpdir(), "matryoshka-train-command-"));
afterAll(() => {
  model.remove();
  beir.remove();
  rmSync(scratch, { recursive: true, force: true });
});

/** Every part of a run in a small one: two mining rounds, validations, layer dropout, turns, new token types, carried logits. */
const settings = {
  init: model.directory,
  tokenTypes: "match",
  carry: [0, 0.2, 0.3],
  ...{ maxLength: 64, maxQueryLength: 20, seed: 3, dtype: "f32", steps: STEPS, listsPerStep: 2, listSize: 4 },
  ...{ turnTokens: 300, recompute: false, layerDropout: 0.2 },
  sources: [{ path: beir.directory, split: "test", run: "first.trec", depth: 10 }],
  negatives: { random: 0.2, rounds: [20, 50], keep: 5, queries: 8 },
  loss: {
    ...{ exitWeights: [1, 1, 1], rank: 1, binary: 0.2, teachers: [] },
    distill: { weight: 0.5, temperature: 1, direction: "forward", anchors: [2] },
  },
  optimizer: {
    ...{ encoder: 1e-3, heads: 5e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clip: 1 },
    ...{ warmup: 0.1, decay: "linear" },
  },
  validation: { every: 60, sets: [{ path: beir.directory, split: "test", run: "first.trec", queries: 4, depth: 8 }] },
  checkpoint: { every: 7 },
};

let names = 0;
/** The arguments of a run of its own. */
function run(changes: object = {}, ...more: string[]): { readonly out: string; readonly args: string[] } {
  const name = join(scratch, String(names++));
  writeFileSync(`${name}.json`, JSON.stringify({ ...settings, ...changes }));
  return { out: name, args: ["train", "--config", `${name}.json`, "--out", name, "--threads", "1", ...more] };
}

/** All that the trainer is when a run is done, bit by bit. */
async function bits(out: string): Promise<Buffer> {
  const checkpoint = (await latestCheckpoint(checkpointsPath(out)))!;
  return readFileSync(checkpoint.state);
}

/** The last step that stands whole in the log. */
function loggedStep(out: string): number {
  if (!existsSync(logPath(out))) return 0;
  const lines = readFileSync(logPath(out), "utf8").split("\n").slice(0, -1);
  return lines.length === 0 ? 0 : (JSON.parse(lines.at(-1)!) as { step: number }).step;
}

const steps = async (out: string) =>
  (await readLog(logPath(out))).filter(({ kind }) => kind === "step").map(({ step }) => step);
const all = Array.from({ length: STEPS }, (_, i) => i + 1);

describe("train", { timeout: 180_000 }, () => {
  const alone = run();
  let said: Finished;
  beforeAll(async () => {
    said = await matryoshka(alone.args);
  });

  it("leaves a model, a report and its last two checkpoints, and says how validation went", async () => {
    expect(said).toMatchObject({ code: 0, stderr: expect.stringMatching(/: 20 lists, \d+ candidates\n/) });
    expect(said.stdout).toMatch(
      /step 60 of 240.*; nDCG@10 by layer \(.*\): 1: 0\.\d{4} {2}2: 0\.\d{4} {2}3: 0\.\d{4}\n/,
    );
    expect(said.stdout).toMatch(/\nTrained in 240 steps: .*model, .*report\.html\n$/);
    expect(readdirSync(alone.out).sort()).toEqual(["checkpoints", "log.jsonl", "model", "report.html"]);
    expect(readdirSync(checkpointsPath(alone.out))).toHaveLength(2);
    expect(await steps(alone.out)).toEqual(all);
    const report = readFileSync(join(alone.out, "report.html"), "utf8");
    expect(report).not.toMatch(/<script|https?:\/\/(?!www\.w3\.org)|src=/);
    for (const title of ["Loss", "nDCG@10 of every exit", "Quality against cost after 240 steps"])
      expect(report).toContain(title);
    const { provenance } = JSON.parse(readFileSync(join(alone.out, "model", "matryoshka.json"), "utf8"));
    expect(provenance).toMatchObject({ steps: STEPS, config: { seed: 3 }, data: [{ lists: 20 }] });
    expect(JSON.stringify(provenance)).not.toContain(tmpdir());
  });

  it("exports what the reranker opens and scores as the trainer does, but for the rounding to F16", async () => {
    const checkpoint = (await latestCheckpoint(checkpointsPath(alone.out)))!;
    const { trainer } = await openTrainer(checkpoint.config, 1);
    await trainer.load(checkpoint.state);
    const encoder = await makeEncoder(model.directory, checkpoint.config);
    const query = "giant panda bear";
    const documents = ["the giant panda", "bear of china", "word"];
    const scores = await trainer.score(encoder.pairs(query, documents));
    trainer.close();
    await using reranker = await Reranker.open(join(alone.out, "model"), { dtype: "f32", threads: 1 });
    expect(reranker.info).toMatchObject({ exitLayers: [1, 2, 3], carry: settings.carry });
    const pairs = documents.map((document) => ({ query, document }));
    const { logits } = await reranker.score(pairs, { layers: [1, 2, 3] });
    for (const [i, score] of scores.entries())
      expect(Math.abs(logits[1 + (i % 3)]![Math.floor(i / 3)]! - score)).toBeLessThan(0.02);
  });

  it("killed with SIGKILL at ten random points, ends with the bits of the run that was left alone", async () => {
    const random = new Random(Date.now());
    const { out, args } = run();
    for (let life = 0; life < 10; life++) {
      const enough = loggedStep(out) + 1 + random.integer(12);
      const child = start(...args);
      const closed = once(child, "close");
      // Now and then before it has done anything.
      if (life % 4 === 3) await setTimeout(random.integer(600));
      else while (loggedStep(out) < enough && child.exitCode === null) await setTimeout(1);
      await setTimeout(random.integer(12));
      child.kill("SIGKILL");
      await closed;
      expect(child.signalCode).toBe("SIGKILL");
    }
    expect(await matryoshka(args)).toMatchObject({
      ...{ code: 0, stderr: expect.stringMatching(/Going on after step \d+, from .*checkpoint-/) },
    });
    expect((await bits(out)).equals(await bits(alone.out))).toBe(true);
    for (const file of ["model.safetensors", "matryoshka.safetensors", "matryoshka.json"])
      expect(readFileSync(join(out, "model", file)).equals(readFileSync(join(alone.out, "model", file)))).toBe(true);
    expect(await steps(out)).toEqual(all);
  });

  it("stopped by --steps-now, SIGTERM or SIGINT, has a checkpoint of its last step and goes on from there", async () => {
    const { out, args } = run();
    const first = await matryoshka([...args, "--steps-now", "10", "--json"]);
    expect(first.code).toBe(0);
    expect(JSON.parse(first.stdout)).toMatchObject({ step: 10, steps: STEPS, finished: false, model: null });
    for (const [name, code] of [["SIGTERM", 143] as const, ["SIGINT", 130] as const]) {
      const from = loggedStep(out);
      const child = start(...args);
      const outcome = finished(child);
      while (loggedStep(out) === from && child.exitCode === null) await setTimeout(1);
      child.kill(name);
      expect(await outcome).toMatchObject({ code, stdout: expect.stringContaining("the same command goes on") });
      const { step } = (await latestCheckpoint(checkpointsPath(out)))!;
      expect(step).toBe(loggedStep(out));
      expect(step).toBeLessThan(STEPS);
    }
    expect((await matryoshka([...args, "--threads", "2"])).code).toBe(0);
    expect((await bits(out)).equals(await bits(alone.out))).toBe(true);
  });

  it("whose reader has gone ends with a checkpoint and goes on when it is called again", async () => {
    const { out, args } = run();
    const child = start(...args);
    child.stdout!.destroy();
    const [code] = await once(child, "close");
    expect(code).toBe(141);
    const { step } = (await latestCheckpoint(checkpointsPath(out)))!;
    expect(step).toBe(loggedStep(out));
    expect(await matryoshka(args)).toMatchObject({ code: 0, stderr: expect.stringMatching(/Going on after step/) });
    expect((await bits(out)).equals(await bits(alone.out))).toBe(true);
  });

  it("exports the newest checkpoint also while another process holds the run, which no second one may train", async () => {
    const { out, args } = run();
    const exporting = ["train", "--out", out, "--export"];
    expect((await matryoshka(exporting)).stderr).toMatch(/ERR_FILE: Expected a checkpoint in .* none yet: train first/);
    await matryoshka([...args, "--steps-now", "5"]);
    const held = lock(logPath(out));
    try {
      const second = await matryoshka(args);
      expect(second).toMatchObject({ code: 1, stderr: expect.stringMatching(/for this run alone.*another --out/) });
      expect(await matryoshka(exporting)).toMatchObject({ code: 0, stdout: expect.stringMatching(/^As of step 5 of/) });
    } finally {
      held.release();
    }
    await using reranker = await Reranker.open(join(out, "model"), { dtype: "f32", threads: 1 });
    expect(reranker.info.provenance).toMatchObject({ steps: 5 });
  });

  it.skipIf(process.platform === "win32")("with no space left, says so and keeps what was finished", async () => {
    const { out, args } = run();
    await matryoshka([...args, "--steps-now", "3"]);
    const before = await bits(out);
    // In blocks of 512 bytes: the log fits, the weights do not.
    const child = spawn("sh", [
      ...["-c", 'ulimit -f "$0" && exec "$@"', "400", process.execPath, "--import", "tsx"],
      ...[join("lib", "cli", "main.ts"), ...args],
    ]);
    expect(await finished(child)).toMatchObject({ code: 1, stderr: expect.stringContaining("ERR_FILE: ") });
    expect(readdirSync(checkpointsPath(out))).toEqual(["checkpoint-000001"]);
    expect((await bits(out)).equals(before)).toBe(true);
    expect((await matryoshka(args)).code).toBe(0);
    expect((await bits(out)).equals(await bits(alone.out))).toBe(true);
  });
});

describe("bad input is refused before the first step", { timeout: 180_000 }, () => {
  const lines = Array.from({ length: 8 }, (_, i) => ({
    query: `panda ${i}`,
    pos: ["the panda"],
    neg: ["bear", `${i}`],
  }));
  const jsonl = (...bad: string[]) => {
    const path = join(scratch, `${names++}.jsonl`);
    writeFileSync(path, [...bad, ...lines.map((line) => JSON.stringify(line))].join("\n"));
    return path;
  };

  it.each([
    ["a line that does not parse", '{"query": "a"'],
    ["no positive", '{"query": "a", "pos": [], "neg": ["b"]}'],
    ["a score that is no number", '{"query": "a", "pos": ["b"], "neg": ["c"], "pos_scores": ["x"], "neg_scores": [1]}'],
  ])("%s, naming file and line, or skipped and counted with --skip-bad", async (_, line) => {
    const path = jsonl(line);
    const { out, args } = run({ sources: [{ path }], steps: 3, negatives: { ...settings.negatives, rounds: [] } });
    const refused = await matryoshka(args);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(`${path}:1`) });
    expect(refused.stderr).toMatch(/^matryoshka: ERR_/);
    expect(existsSync(checkpointsPath(out))).toBe(false);
    const skipped = await matryoshka([...args, "--skip-bad"]);
    expect(skipped).toMatchObject({ code: 0, stderr: expect.stringMatching(/: 8 lists, \d+ candidates, 1 skipped\n/) });
  });

  it.each([
    ["a passage twice", "corpus.jsonl", '{"_id": "d0", "text": "again"}'],
    ["a query that does not parse", "queries.jsonl", '{"_id": "q99"'],
    ["a grade that is no number", "qrels/test.tsv", "q1\td1\tgood"],
    ["a score that is no number", "first.trec", "q1 Q0 d99 1 NaN made"],
  ])("%s in a BEIR directory, naming file and line, or skipped and counted", async (_, name, line) => {
    const own = makeBeir({ queries: 20, documents: 100, candidates: 12 });
    try {
      appendFileSync(join(own.directory, name), `${line}\n`);
      const where = `${join(own.directory, name)}:${readFileSync(join(own.directory, name), "utf8").split("\n").length - 1}`;
      const sources = [{ path: own.directory, split: "test", run: "first.trec" }];
      const { args } = run({ sources, steps: 2, negatives: { ...settings.negatives, rounds: [] } });
      expect(await matryoshka(args)).toMatchObject({ code: 1, stderr: expect.stringContaining(where) });
      const skipped = await matryoshka([...args, "--skip-bad"]);
      expect(skipped).toMatchObject({
        code: 0,
        stderr: expect.stringMatching(/: 20 lists, \d+ candidates, 1 skipped\n/),
      });
    } finally {
      own.remove();
    }
  });

  it.each<[string, object, RegExp]>([
    ["a key that nobody knows", { seeed: 1 }, /"seed"/],
    ["no steps", { steps: 0 }, /steps/],
    ["no such data", { sources: [{ path: "nowhere.jsonl" }] }, /nowhere\.jsonl/],
    ["no such encoder", { init: "/nowhere" }, /nowhere/],
    ["a weight too few", { loss: { ...settings.loss, exitWeights: [1, 1] } }, /exitWeights/],
    [
      "an anchor that is no exit",
      { loss: { ...settings.loss, distill: { ...settings.loss.distill, anchors: [9] } } },
      /anchors/,
    ],
    ["sequences longer than the model's", { maxLength: 1000 }, /maxLength/],
    [
      "a validation set without its run",
      { validation: { every: 5, sets: [{ ...settings.validation.sets[0], run: "x.trec" }] } },
      /x\.trec/,
    ],
  ])("a configuration with %s", async (_, changes, message) => {
    const { out, args } = run(changes);
    const { code, stderr } = await matryoshka(args);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^matryoshka: ERR_[A-Z_]+: /m);
    expect(stderr).toMatch(message);
    expect(existsSync(checkpointsPath(out))).toBe(false);
  });

  it("no configuration, or one that does not parse", async () => {
    expect(await matryoshka(["train", "--out", scratch])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("--config is needed"),
    });
    const { out, args } = run();
    writeFileSync(`${out}.json`, '{"init": ');
    expect(await matryoshka(args)).toMatchObject({ code: 1, stderr: expect.stringContaining(`${out}.json`) });
  });

  it("another configuration than the run's own, naming what differs", async () => {
    const { out, args } = run();
    await matryoshka([...args, "--steps-now", "1"]);
    writeFileSync(
      `${out}.json`,
      JSON.stringify({ ...settings, seed: 4 } satisfies Partial<Record<keyof TrainConfig, unknown>>),
    );
    const { code, stderr } = await matryoshka(args);
    expect(code).toBe(1);
    expect(stderr).toContain("seed was 3 and is 4");
  });
});
