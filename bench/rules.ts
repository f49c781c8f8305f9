/**
 * What exactness costs by kind of rule: static depths, confidence and top-k, each certified on the same queries for the same
 * promise. Rules without a closed form get their configuration by Learn then Test, from paths ordered on TRAIN.
 *
 * Run: npm run bench:rules [-- --dtype bf16] [--queries N, as certify's] [--store DIR]. A killed run goes on.
 */
import { parseArgs } from "node:util";
import { assess } from "../dist/certify/assess.js";
import { fitCompensation } from "../dist/certify/compensation.js";
import { calibratePath } from "../dist/certify/ltt.js";
import { confidenceGrid, layerPath, tunedPath } from "../dist/certify/paths.js";
import type { Rule } from "../dist/exit/rule.js";
import { subset } from "../dist/exit/trajectory.js";
import { CALIBRATION_OPTIONS, calibrations } from "./certify.js";
import { machine } from "./machine.js";
import { MAX_LENGTH, withModel } from "./sets.js";

const TARGET = { k: 10, alpha: 0.05, delta: 0.05 } as const;

function words(rule: Rule | undefined): string {
  if (!rule) return "full depth";
  if (rule.type === "layer") return `layer ${rule.layer}`;
  if (rule.type !== "confidence") return rule.type;
  const threshold = rule.exits[0]!.threshold.toPrecision(4);
  return `> ${threshold}${rule.difficulty ? `, or difficulty < ${rule.difficulty.easy}` : ""}`;
}

const { values } = parseArgs({ options: CALIBRATION_OPTIONS });
await withModel(values, async (reranker, dtype) => {
  const cost = reranker.info;
  const options = { targets: [TARGET], queries: Number(values.queries) };
  const { set, made } = await calibrations(reranker, dtype, values.store, options);
  const calibration = made[0]!;
  if (!calibration.feasible) throw new Error(calibration.reason);
  const { certificate, split } = calibration;
  const [train, cal] = [subset(set, split.train), subset(set, split.cal)];
  const exits = set.layers.slice(3, -1);
  const heads = fitCompensation(train, exits).map((head, i) => ({ ...head, layer: exits[i]! }));
  const staged = set.lists.every(({ firstStage }) => firstStage !== undefined);
  const kinds: Readonly<Record<string, readonly Rule[]>> = {
    "static depth": layerPath(set.layers),
    "confidence of a document": confidenceGrid(heads, "pair", TARGET.k, false),
    "confidence within its list": confidenceGrid(heads, "list", TARGET.k, false),
    ...(staged && { "confidence or first stage": confidenceGrid(heads, "pair", TARGET.k, true) }),
  };
  console.log(
    `${machine().line}\n${dtype}, ${set.layers.length} layers, up to ${MAX_LENGTH} tokens, BM25's top 100, k = ${TARGET.k}, α = ${TARGET.alpha}, δ = ${TARGET.delta}, n = ${cal.lists.length}\n`,
  );
  console.log(
    "| rule | configurations on the path | certified | queries that differ | of full compute |\n|---|---|---|---|---|",
  );
  for (const [kind, rules] of Object.entries(kinds)) {
    const path = tunedPath(rules, train, TARGET.k, cost);
    const { rule, certified, failures } = calibratePath(path, cal, TARGET);
    const compute = rule ? assess(cal, rule, TARGET.k, cost).computeFraction : 1;
    const failed = certified > 0 ? failures[certified - 1] : 0;
    console.log(`| ${kind} | ${path.length} of ${rules.length} | ${words(rule)} | ${failed} | ${compute.toFixed(3)} |`);
  }
  const rule = { type: "top-k", k: TARGET.k, scale: certificate.scale, exits: certificate.widths } as const;
  const { exactTopK } = assess(cal, rule, TARGET.k, cost);
  console.log(
    `| top-k | | scale ${certificate.scale.toPrecision(4)} | ${Math.round((1 - exactTopK) * cal.lists.length)} | ${certificate.computeFraction.toFixed(3)} |`,
  );
});
