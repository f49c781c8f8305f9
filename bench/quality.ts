/**
 * nDCG@10 of the bundled model at several depths, under the protocol of its card: the whole chain (tokenizer, weights,
 * engine) on real data, beside the same weights in float32 PyTorch. Exits with 1 where a figure differs by more than the
 * bound. The card's own figures are of a bf16 run; in float32, PyTorch differs from them by up to .0035, as we do.
 *
 * Run: npm run quality [-- --dtype f32] [-- --set NAME …]. Reads BEIR directories under ../shared/data/eval.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { passageText, readCorpus, readQueries, readSplit } from "../dist/eval/beir.js";
import { evaluate } from "../dist/eval/metrics.js";
import { candidates, readRun } from "../dist/eval/trec-run.js";
import { type Dtype, Reranker } from "../dist/index.js";
import { machine } from "./machine.js";

const DATA = fileURLToPath(new URL("../../shared/data/eval", import.meta.url));
const DEPTHS = [4, 6, 8, 12] as const;
/** Equal texts tie exactly here, and by chance in padded batches; bf16 and int8 round on their own. */
const boundOf = (dtype: string): number => (dtype === "f32" ? 0.001 : 0.005);
/** Of bench/quality_reference.py, at DEPTHS. */
const PYTORCH: Readonly<Record<string, readonly number[]>> = {
  "trec-dl-21": [0.3332, 0.5261, 0.5684, 0.5622],
  wikiqa: [0.6685, 0.7346, 0.8103, 0.8149],
  "hotpotqa-small": [0.8108, 0.8575, 0.8927, 0.8885],
  "musique-small": [0.5022, 0.6589, 0.7171, 0.7165],
};

/** nDCG@10 at DEPTHS: BM25's first 100, ties by its order, queries without a relevant document left out. */
async function measured(reranker: Reranker, set: string): Promise<{ queries: number; pairs: number; ndcg: number[] }> {
  const directory = join(DATA, set);
  const run = await readRun(join(directory, "runs", "bm25.test.trec"));
  const qrels = await readSplit(directory, set === "trec-dl-21" ? "test.full" : "test");
  const queries = await readQueries(join(directory, "queries.jsonl"));
  const wanted = [...run].filter(([query]) => [...(qrels.get(query)?.values() ?? [])].some((grade) => grade > 0));
  const lists = wanted.map(([query, entries]) => ({ query, ids: candidates(entries, 100).map(({ id }) => id) }));
  const corpus = await readCorpus(join(directory, "corpus.jsonl"), new Set(lists.flatMap(({ ids }) => ids)));
  const requests = lists.map(({ query, ids }) => ({
    query: queries.get(query)!,
    documents: ids.map((id) => passageText(corpus.get(id)!)),
  }));
  const rankings = DEPTHS.map(() => new Map<string, string[]>());
  let at = 0;
  for await (const { results } of reranker.rerankMany(requests, { layers: DEPTHS, maxLength: 256 })) {
    const { query, ids } = lists[at++]!;
    const inOrder = results.toSorted((a, b) => a.index - b.index);
    DEPTHS.forEach((layer, i) => {
      const order = inOrder.toSorted((a, b) => b.logits![layer]! - a.logits![layer]!);
      rankings[i]!.set(
        query,
        order.map(({ index }) => ids[index]!),
      );
    });
  }
  const ndcg = rankings.map((ranking) => evaluate(ranking, qrels, ["nDCG@10"]).mean["nDCG@10"]!);
  return { queries: lists.length, pairs: requests.reduce((sum, { documents }) => sum + documents.length, 0), ndcg };
}

const { values } = parseArgs({
  options: { dtype: { type: "string", default: "f32" }, set: { type: "string", multiple: true } },
});
if (!existsSync(DATA)) {
  console.log("skipped: the evaluation sets are not at ../shared/data/eval");
} else {
  await using reranker = await Reranker.open(undefined, { dtype: values.dtype as Dtype });
  console.log(
    `${machine().line}\n${reranker.info.backend}; nDCG@10 of BM25's top 100 after ${DEPTHS.join(", ")} layers (PyTorch float32)`,
  );
  let worst = 0;
  for (const [set, expected] of Object.entries(PYTORCH)) {
    if (values.set && !values.set.includes(set)) continue;
    const { queries, pairs, ndcg } = await measured(reranker, set);
    worst = Math.max(worst, ...ndcg.map((value, i) => Math.abs(value - expected[i]!)));
    const cells = ndcg.map((value, i) => `${value.toFixed(4)} (${expected[i]!.toFixed(4)})`);
    console.log(
      `${set.padEnd(16)} ${String(queries).padStart(4)} queries ${String(pairs).padStart(5)} pairs  ${cells.join("  ")}`,
    );
  }
  const bound = boundOf(values.dtype);
  console.log(`largest difference ${worst.toFixed(4)}, bound ${bound}`);
  process.exitCode = worst > bound ? 1 : 0;
}
