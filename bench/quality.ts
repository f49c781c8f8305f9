/**
 * nDCG@10 of a model at several depths on the evaluation sets, under the protocol of the bundled model's card: the whole
 * chain (tokenizer, weights, engine) on real data. Where float32 PyTorch has scored the same weights
 * (quality_reference.py), its figures stand beside ours, and a difference of more than the bound exits with 1.
 *
 * Run: npm run quality [-- --model DIR] [-- --dtype f32] [-- --layers 4,6,8,12] [-- --max-length 512] [-- --set NAME …].
 * Reads BEIR directories under ../shared/data/eval. Writes bench/results/quality.json when all sets of the bundled model were
 * asked for at the card's length.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { firstStage } from "../dist/cli/report.js";
import { evaluate } from "../dist/eval/metrics.js";
import { fingerprint } from "../dist/fingerprint.js";
import type { Reranker } from "../dist/index.js";
import { machine } from "./machine.js";
import { chosenSets, type EvaluationSet, evaluationSet, SETS, withModel } from "./sets.js";
import { writeJson } from "./suites/results.js";

/** Tokens of a pair in the card's protocol. */
const CARD_LENGTH = 256;
/** Equal texts tie exactly here, and by chance in padded batches; bf16 and int8 round on their own. */
const boundOf = (dtype: string): number => (dtype === "f32" ? 0.001 : 0.005);

interface Reference {
  readonly modelHash: string;
  readonly layers: readonly number[];
  /** By set, nDCG@10 at `layers`. */
  readonly sets: Readonly<Record<string, readonly number[]>>;
}

/** nDCG@10 at `layers`. */
async function measured(
  reranker: Reranker,
  { lists, qrels }: EvaluationSet,
  { layers, maxLength }: { readonly layers: readonly number[]; readonly maxLength: number },
) {
  const requests = lists.map(({ text, documents }) => ({ query: text, documents: documents.map((each) => each.text) }));
  const rankings = layers.map(() => new Map<string, string[]>());
  let at = 0;
  for await (const { results } of reranker.rerankMany(requests, { layers, maxLength })) {
    const { query, documents } = lists[at++]!;
    const inOrder = results.toSorted((a, b) => a.index - b.index);
    layers.forEach((layer, i) => {
      const order = inOrder.toSorted((a, b) => b.logits![layer]! - a.logits![layer]!);
      rankings[i]!.set(
        query,
        order.map(({ index }) => documents[index]!.id),
      );
    });
  }
  return rankings.map((ranking) => evaluate(ranking, qrels, ["nDCG@10"]).mean["nDCG@10"]!);
}

const { values } = parseArgs({
  options: {
    model: { type: "string" },
    device: { type: "string" },
    dtype: { type: "string", default: "f32" },
    "max-length": { type: "string", default: String(CARD_LENGTH) },
    layers: { type: "string" },
    set: { type: "string", multiple: true },
  },
});
const maxLength = Number(values["max-length"]);
await withModel(values, async (reranker, dtype) => {
  const { info } = reranker;
  const layers = values.layers?.split(",").map(Number) ?? info.exitLayers;
  const { modelHash } = await fingerprint(info.directory, { dtype, maxLength });
  const reference = JSON.parse(readFileSync(new URL("data/quality.json", import.meta.url), "utf8")) as Reference;
  const known = reference.modelHash === modelHash && maxLength === CARD_LENGTH ? reference : undefined;
  console.log(
    `${machine().line}\n${info.backend}, up to ${maxLength} tokens; nDCG@10 of BM25's top 100 after n layers${known ? " (PyTorch float32)" : ""}\n`,
  );
  console.log(`| set | queries | pairs | BM25 | ${layers.join(" | ")} |\n|${"---|".repeat(layers.length + 4)}`);
  let worst = 0;
  const rows: { set: string; queries: number; pairs: number; bm25: number; ndcg: number[] }[] = [];
  for (const name of chosenSets(SETS, values.set)) {
    const set = await evaluationSet(name);
    const bm25 = firstStage(set.lists, { qrels: set.qrels, measures: ["nDCG@10"] }).metrics["nDCG@10"]!;
    const ndcg = await measured(reranker, set, { layers, maxLength });
    const pairs = set.lists.reduce((sum, { documents }) => sum + documents.length, 0);
    rows.push({ set: name, queries: set.lists.length, pairs, bm25, ndcg });
    const cells = ndcg.map((value, i) => {
      const expected = known?.sets[name]?.[known.layers.indexOf(layers[i]!)];
      if (expected === undefined) return value.toFixed(4);
      worst = Math.max(worst, Math.abs(value - expected));
      return `${value.toFixed(4)} (${expected.toFixed(4)})`;
    });
    console.log(`| ${name} | ${set.lists.length} | ${pairs} | ${bm25.toFixed(4)} | ${cells.join(" | ")} |`);
  }
  const mean = (pick: (row: (typeof rows)[number]) => number) =>
    rows.reduce((sum, row) => sum + pick(row), 0) / rows.length;
  const means = layers.map((_, i) => mean(({ ndcg }) => ndcg[i]!));
  console.log(
    `| mean | | | ${mean(({ bm25 }) => bm25).toFixed(4)} | ${means.map((each) => each.toFixed(4)).join(" | ")} |`,
  );
  if (values.model === undefined && rows.length === SETS.length && maxLength === CARD_LENGTH)
    writeJson("quality", { backend: info.backend, maxLength, modelHash, layers, sets: rows, means });
  if (known) {
    const bound = boundOf(dtype);
    console.log(`largest difference ${worst.toFixed(4)}, bound ${bound}`);
    process.exitCode = worst > bound ? 1 : 0;
  }
});
