/**
 * Training throughput beside PyTorch's bf16: the same model, losses, steps and lengths, each in a process of its own, in
 * interleaved rounds; and heads alone, with nothing going back through the encoder. Prints a table and writes
 * bench/results/training.json.
 *
 * Run: npm run bench:training. PyTorch needs `python3` (or $PYTHON) with torch, numpy and safetensors; without it only
 * our own figures are printed.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { machine, median } from "../machine.js";
import { workloads } from "../peers/workload.mjs";
import { writeJson } from "../suites/results.js";

const ROUNDS = 5;
/** Pairs of a list and lists of a step: the steps go once through workload W. */
const [LIST, LISTS] = [8, 8];

interface Round {
  readonly milliseconds: number;
  readonly loss: number;
  readonly peakMiB: number;
}

interface Contender {
  readonly name: string;
  readonly round: () => Promise<Round>;
  readonly stop: () => void;
}

const python = process.env.PYTHON ?? "python3";
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** A process that does all steps once for every line it is sent, and answers with a `Round`. */
function start(name: string, command: string, args: readonly string[]): Contender {
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const round = async (): Promise<Round> => {
    child.stdin.write("\n");
    const { value, done } = await lines.next();
    if (done) throw new Error(`${name} ended`);
    return JSON.parse(value) as Round;
  };
  return { name, round, stop: () => child.kill() };
}

const { all } = workloads();
const steps = Array.from({ length: all.length / (LIST * LISTS) }, (_, s) =>
  all.slice(s * LIST * LISTS, (s + 1) * LIST * LISTS).map(({ ids, types }) => ({ ids, types })),
);
const scratch = mkdtempSync(join(tmpdir(), "matryoshka-training-bench-"));
const file = join(scratch, "steps.json");
writeFileSync(file, JSON.stringify({ list: LIST, steps }));

const ours = (name: string, encoderRate: number) =>
  start(name, process.execPath, ["--import", "tsx", here("ours.ts"), file, `${encoderRate}`]);
const torch = (pairs: number) =>
  start(`PyTorch bf16, ${pairs} pairs at once`, python, [here("torch_train.py"), file, `${pairs}`]);
const hasTorch = spawnSync(python, ["-c", "import torch, numpy, safetensors"], { stdio: "ignore" }).status === 0;
if (!hasTorch)
  console.log(`skipped PyTorch: ${python} has no torch, numpy and safetensors (set PYTHON to one that has)`);

/** PyTorch pads: which number of like-long pairs goes through at once is its to choose. */
async function best(): Promise<number> {
  let chosen = { pairs: 0, milliseconds: Number.POSITIVE_INFINITY };
  for (const pairs of [8, 16, 32, 64]) {
    const contender = torch(pairs);
    await contender.round();
    const { milliseconds } = await contender.round();
    contender.stop();
    console.error(`${contender.name}: ${((all.length / milliseconds) * 1e3).toFixed(1)} pairs/s`);
    if (milliseconds < chosen.milliseconds) chosen = { pairs, milliseconds };
  }
  return chosen.pairs;
}

try {
  const contenders = [
    ours("matryoshka-rerank bf16", 6e-5),
    ours("matryoshka-rerank bf16, heads alone", 0),
    ...(hasTorch ? [torch(await best())] : []),
  ];
  for (const { round } of contenders) await round();
  const rounds = contenders.map((): Round[] => []);
  for (let r = 0; r < ROUNDS; r++) for (const [c, { round }] of contenders.entries()) rounds[c]!.push(await round());
  for (const { stop } of contenders) stop();
  const rows = contenders.map(({ name }, c) => ({
    who: name,
    pairsPerSecond: +((all.length / median(rounds[c]!.map(({ milliseconds }) => milliseconds))) * 1e3).toFixed(1),
    peakMiB: Math.round(Math.max(...rounds[c]!.map(({ peakMiB }) => peakMiB))),
    loss: rounds[c]!.map(({ loss }) => +loss.toFixed(4)),
  }));
  const [mine, , theirs] = rows;
  const ratio = theirs && +(mine!.pairsPerSecond / theirs.pairsPerSecond).toFixed(2);
  const meanTokens = +(all.reduce((sum, { ids }) => sum + ids.length, 0) / all.length).toFixed(1);
  console.log(machine().line);
  console.log(
    `${LISTS} lists of ${LIST} pairs a step, mean ${meanTokens} tokens, 12 exits, 2 threads, median of ${ROUNDS}`,
  );
  console.table(rows.map(({ loss, ...row }) => ({ ...row, "first loss": loss[0] })));
  if (ratio)
    console.log(
      `${ratio} × PyTorch's pairs/s with ${((mine!.peakMiB / theirs!.peakMiB) * 100).toFixed(0)} % of its memory`,
    );
  writeJson("training", { list: LIST, listsPerStep: LISTS, meanTokens, threads: 2, rounds: ROUNDS, rows, ratio });
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
