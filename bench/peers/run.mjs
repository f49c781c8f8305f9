/**
 * The same weights on the same texts in the programs that a Node user could pick, beside this package: each contender in
 * its own process on 2 threads, at its best batch size, in interleaved rounds. Prints a table and writes
 * bench/results/peers.json. The peers' model files come from make_models.py; a contender without its file is skipped.
 *
 * Run: npm run bench:peers [-- PART_OF_A_NAME …]
 */
import { fork, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bootstrap } from "../bootstrap.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const ROUNDS = 5;

/** A pass during which other processes took more than this share of the CPUs is repeated, up to `TRIES` in all. */
const DISTURBED = 0.05;
const TRIES = 4;

const NAMES = {
  ours: "matryoshka-rerank",
  onnxruntime: "onnxruntime-node",
  transformers: "@huggingface/transformers",
  llama: "node-llama-cpp",
  torch: "PyTorch",
};
const CONTENDERS = [
  ["ours", "f32"],
  ["ours", "bf16"],
  ["ours", "int8"],
  ["onnxruntime", "f32"],
  ["onnxruntime", "int8"],
  ["transformers", "f32"],
  ["transformers", "int8"],
  ["llama", "f32"],
  ["llama", "q8_0"],
  ["torch", "f32"],
  ["torch", "bf16"],
];

bootstrap();
if (!existsSync(join(here, "node_modules", ".package-lock.json"))) {
  console.error("Installing the peers …");
  // Not `npm ci`: it fails where a registry's mirror lacks a package for another platform.
  const { status } = spawnSync("npm", ["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"], {
    cwd: here,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (status !== 0) process.exit(1);
}
const { workloads } = await import("./workload.mjs");

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

/** Starts a contender's process; null, with the reason printed, where it cannot run here. */
async function start([who, dtype]) {
  const name = `${NAMES[who]} ${dtype}`;
  const skip = (reason) => {
    console.error(`skipped ${name}: ${reason}`);
    return null;
  };
  let module;
  try {
    module = await import(`./contenders/${who}.mjs`);
  } catch (error) {
    return skip(error.message);
  }
  const file = module.files?.[dtype];
  if (file && !existsSync(join(here, file))) return skip(`bench/peers/${file} is missing; make_models.py writes it`);
  const reason = module.missing?.();
  if (reason) return skip(reason);
  const child = fork(join(here, "contender.mjs"), [who, dtype]);
  const next = () =>
    new Promise((resolve, reject) => {
      const ended = (code) => reject(new Error(`its process ended with code ${code}`));
      child.once("exit", ended);
      child.once("message", (message) => {
        child.off("exit", ended);
        resolve(message);
      });
    });
  try {
    const { version } = await next();
    const ask = (message) => {
      const answer = next();
      child.send(message);
      return answer;
    };
    return { who, dtype, name, version, sizes: module.batchSizes, ask, stop: () => child.kill() };
  } catch (error) {
    return skip(error.message);
  }
}

/** One pass, the least disturbed of a few. */
async function pass(contender, workload) {
  let best;
  for (let i = 0; i < TRIES && !(best?.others <= DISTURBED); ++i) {
    const result = await contender.ask({ workload, size: contender.best });
    if (!best || result.others < best.others) best = result;
  }
  return best;
}

const wanted = process.argv.slice(2);
const contenders = [];
for (const entry of CONTENDERS) {
  if (wanted.length > 0 && !wanted.some((part) => `${NAMES[entry[0]]} ${entry[1]}`.includes(part))) continue;
  const contender = await start(entry);
  if (contender) contenders.push(contender);
}

const rows = workloads();
for (const contender of contenders) {
  const times = [];
  for (const size of contender.sizes) {
    const ask = () => contender.ask({ workload: "sample", size });
    await ask();
    times.push(Math.min((await ask()).milliseconds, (await ask()).milliseconds));
  }
  contender.best = contender.sizes[times.indexOf(Math.min(...times))];
  contender.passes = { all: [], query: [] };
  console.error(`${contender.name} ${contender.version}: best batch ${contender.best}`);
}
for (let round = 1; round <= ROUNDS; ++round) {
  console.error(`round ${round} of ${ROUNDS} …`);
  for (const contender of contenders)
    for (const workload of ["all", "query"]) contender.passes[workload].push(await pass(contender, workload));
}
for (const contender of contenders) contender.stop();

const tokens = rows.all.reduce((sum, { ids }) => sum + ids.length, 0);
const perSecond = (count, milliseconds) => +(count / (milliseconds / 1e3)).toFixed(1);
const reference = contenders.find(({ who, dtype }) => who === "ours" && dtype === "f32")?.passes.all[0].logits;
const table = contenders.map(({ who, dtype, version, best, passes }) => {
  const time = median(passes.all.map((p) => p.milliseconds));
  const row = {
    who: NAMES[who],
    version,
    dtype,
    batch: best,
    pairsPerSecond: perSecond(rows.all.length, time),
    tokensPerSecond: Math.round(tokens / (time / 1e3)),
    p50Ms100docs: +median(passes.query.map((p) => p.milliseconds)).toFixed(1),
    othersShareOfCpu: +median(passes.all.map((p) => p.others)).toFixed(3),
  };
  if (who !== "ours") return row;
  return {
    ...row,
    withTokenization: {
      pairsPerSecond: perSecond(rows.all.length, median(passes.all.map((p) => p.total))),
      p50Ms100docs: +median(passes.query.map((p) => p.total)).toFixed(1),
    },
  };
});
const checks = contenders.map(({ who, dtype, passes }) => ({
  who: NAMES[who],
  dtype,
  pairs: 8,
  maxAbsLogitDifferenceFromOursF32: reference
    ? Math.max(...reference.slice(0, 8).map((logit, i) => Math.abs(logit - passes.all[0].logits[i])))
    : null,
}));

const { machine } = await import("../../dist/index.js");
const os = await import("node:os");
const facts = {
  cpu: os.cpus()[0]?.model.trim(),
  cores: os.availableParallelism(),
  memoryGiB: Math.round(os.totalmem() / 2 ** 30),
  features: machine().features,
  node: process.version,
  platform: `${process.platform}-${process.arch}`,
};
const longest = Math.max(...rows.all.map(({ ids }) => ids.length));
const workload = {
  pairs: rows.all.length,
  tokens,
  meanTokens: +(tokens / rows.all.length).toFixed(1),
  longest,
  threads: 2,
  rounds: ROUNDS,
};
if (wanted.length === 0) {
  const results = join(here, "..", "results");
  mkdirSync(results, { recursive: true });
  const date = new Date().toISOString().slice(0, 10);
  writeFileSync(
    join(results, "peers.json"),
    `${JSON.stringify({ machine: facts, date, workload, rows: table, checks }, null, 2)}\n`,
  );
}

const of = (who, dtype) => table.find((row) => row.who === NAMES[who] && row.dtype === dtype);
const f32 = of("onnxruntime", "f32");
const int8 = of("onnxruntime", "int8");
const ratio = (a, b) => (a && b ? `${(a / b).toFixed(2)} ×` : "–");
console.log(`${facts.cpu}, ${facts.cores} cores, ${facts.features.join(" ")}; Node ${facts.node}`);
console.table(
  table.map((row, i) => ({
    who: `${row.who} ${row.version} ${row.dtype}`,
    batch: row.batch,
    "pairs/s": row.pairsPerSecond,
    "tokens/s": row.tokensPerSecond,
    "100 docs, ms": row.p50Ms100docs,
    "÷ ORT f32": ratio(row.pairsPerSecond, f32?.pairsPerSecond),
    "÷ ORT int8": ratio(row.pairsPerSecond, int8?.pairsPerSecond),
    "latency ÷ ORT f32": ratio(f32?.p50Ms100docs, row.p50Ms100docs),
    "latency ÷ ORT int8": ratio(int8?.p50Ms100docs, row.p50Ms100docs),
    "pairs/s with tokenization": row.withTokenization?.pairsPerSecond ?? "",
    "max |Δ logit|": checks[i].maxAbsLogitDifferenceFromOursF32?.toPrecision(2),
    "CPU of others": row.othersShareOfCpu,
  })),
);
