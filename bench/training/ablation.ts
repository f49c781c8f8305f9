/**
 * What each part of the training recipe is worth: short runs that differ from it in one thing, on the same lists, judged
 * by nDCG@10 at several depths of sets that nothing was trained on. Prints a markdown table and writes
 * bench/results/ablation.json.
 *
 * Run: npm run bench:ablation -- --config DIR/train.json --out DIR [--steps 300] [--only NAME …]. The configuration is
 * models/recipe/train.json beside its sets (models/recipe/prepare.py makes them). A killed run goes on.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { depthReport } from "../../dist/cli/report.js";
import { Reranker } from "../../dist/index.js";
import type { TrainConfig } from "../../dist/train/types.js";
import { machine } from "../machine.js";
import { evaluationSet, missingSets, scored } from "../sets.js";
import { writeJson } from "../suites/results.js";

const DEPTHS = [2, 4, 6, 8, 12];
const SETS = ["trec-dl-21", "wikiqa"] as const;
const DTYPE = "bf16";
const MAX_LENGTH = 256;
/** What makes a run short beside its number of steps: less of each list, and of each text. */
const SHORT = { listSize: 8, maxLength: 96, maxQueryLength: 32 };

type Change = (config: TrainConfig) => object;
/** By name, the keys of the configuration that a run changes. */
const VARIANTS: Readonly<Record<string, Change>> = {
  recipe: () => ({}),
  "heads conditioned on the query": () => ({ head: "query" }),
  "no self-distillation": ({ loss }) => ({ loss: { ...loss, distill: { ...loss.distill, weight: 0 } } }),
  "self-distillation, reverse KL": ({ loss }) => ({
    loss: { ...loss, distill: { ...loss.distill, direction: "reverse" } },
  }),
  "no teacher, labels alone": ({ loss, sources }) => ({
    loss: { ...loss, rank: 1, teachers: [] },
    sources: sources.map(({ teachers: _, ...source }) => source),
  }),
  "no labels, teacher alone": ({ loss }) => ({ loss: { ...loss, rank: 0, binary: 0 } }),
  "all exits weigh the same": ({ loss }) => ({ loss: { ...loss, exitWeights: loss.exitWeights.map(() => 1) } }),
  "no match marks": () => ({ tokenTypes: "segment" }),
  "hard negatives mined once": ({ negatives, steps }) => ({
    negatives: { ...negatives, rounds: [Math.round(steps / 2)], queries: 400 },
  }),
  "hard negatives mined twice": ({ negatives, steps }) => ({
    negatives: { ...negatives, rounds: [Math.round(steps / 3), Math.round((2 * steps) / 3)], queries: 400 },
  }),
  "layer dropout 0.2": () => ({ layerDropout: 0.2 }),
};

const root = fileURLToPath(new URL("../..", import.meta.url));

function train(config: object, file: string, out: string): void {
  writeFileSync(file, `${JSON.stringify(config, undefined, 1)}\n`);
  const command = join(root, "dist", "cli", "main.js");
  const { status } = spawnSync(process.execPath, [command, "train", "--config", file, "--out", out], {
    stdio: "inherit",
  });
  if (status !== 0) throw new Error(`${out}: training ended with ${status}`);
}

/** nDCG@10 by set at DEPTHS. */
async function judged(directory: string, store: string): Promise<Record<string, number[]>> {
  await using reranker = await Reranker.open(directory, { device: "cpu", dtype: DTYPE });
  const out: Record<string, number[]> = {};
  for (const name of SETS) {
    const { lists, qrels } = await evaluationSet(name);
    const set = await scored(reranker, lists, name, { dtype: DTYPE, maxLength: MAX_LENGTH }, store);
    const judge = { qrels, measures: ["nDCG@10"] };
    out[name] = DEPTHS.map((layer) => depthReport(layer, set, judge, reranker.info, null).report.metrics["nDCG@10"]!);
  }
  return out;
}

const { values } = parseArgs({
  options: {
    config: { type: "string" },
    out: { type: "string" },
    steps: { type: "string", default: "300" },
    only: { type: "string", multiple: true },
  },
});
const missing = missingSets();
if (missing) console.log(`skipped: ${missing}`);
else if (!values.config || !values.out) {
  console.error("Expected --config DIR/train.json and --out DIR");
  process.exitCode = 2;
} else {
  const [config, out] = [resolve(values.config), resolve(values.out)];
  mkdirSync(out, { recursive: true });
  const steps = Number(values.steps);
  const given = JSON.parse(readFileSync(config, "utf8")) as TrainConfig;
  const base = { ...given, ...SHORT, steps, checkpoint: { every: 100 }, validation: { every: steps, sets: [] } };
  console.log(
    `${machine().line}\n${steps} steps of ${base.listsPerStep} × ${base.listSize} pairs of up to ${base.maxLength} tokens, ${DTYPE}; nDCG@10 of BM25's top 100 after ${DEPTHS.join(", ")} layers\n`,
  );
  const rows: { variant: string; ndcg: Record<string, number[]> }[] = [];
  for (const [variant, change] of Object.entries(VARIANTS)) {
    if (values.only && !values.only.includes(variant)) continue;
    const name = variant.replace(/\W+/g, "-");
    // Paths in a configuration are relative to it.
    train({ ...base, ...change(base) }, join(dirname(config), `ablation-${name}.json`), join(out, name));
    rows.push({ variant, ndcg: await judged(join(out, name, "model"), join(out, "store")) });
  }
  const cells = (values: readonly number[]) => values.map((each) => each.toFixed(3)).join(" ");
  console.log(`\n| | ${SETS.join(" | ")} |\n|---|${"---|".repeat(SETS.length)}`);
  for (const { variant, ndcg } of rows)
    console.log(`| ${variant} | ${SETS.map((set) => cells(ndcg[set]!)).join(" | ")} |`);
  writeJson("ablation", { steps, ...SHORT, dtype: DTYPE, judged: MAX_LENGTH, depths: DEPTHS, rows });
}
