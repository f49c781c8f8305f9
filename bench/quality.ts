/**
 * nDCG@10 of the bundled model at several depths, under the protocol of its card and beside the card's figures: the
 * whole chain (tokenizer, weights, engine) on real data. Exits with 1 where a figure differs by more than the bound.
 *
 * Run: npm run quality [-- --dtype f32]. Reads BEIR directories under ../shared/data/eval.
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
/** The PyTorch run that made the figures computed in bf16. */
const BOUND = 0.003;
/** models/default/README.md, at DEPTHS. */
const CARD: Readonly<Record<string, readonly number[]>> = {
  "trec-dl-21": [0.3317, 0.5254, 0.5702, 0.5657],
  wikiqa: [0.6693, 0.7338, 0.8109, 0.8144],
  "hotpotqa-small": [0.8117, 0.8577, 0.8931, 0.8868],
  "musique-small": [0.5014, 0.6584, 0.719, 0.7172],
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

const { values } = parseArgs({ options: { dtype: { type: "string", default: "f32" } } });
if (!existsSync(DATA)) {
  console.log("skipped: the evaluation sets are not at ../shared/data/eval");
} else {
  await using reranker = await Reranker.open(undefined, { dtype: values.dtype as Dtype });
  console.log(
    `${machine().line}\n${reranker.info.backend}; nDCG@10 of BM25's top 100 after ${DEPTHS.join(", ")} layers (the card's figure)`,
  );
  let worst = 0;
  for (const [set, card] of Object.entries(CARD)) {
    const { queries, pairs, ndcg } = await measured(reranker, set);
    worst = Math.max(worst, ...ndcg.map((value, i) => Math.abs(value - card[i]!)));
    const cells = ndcg.map((value, i) => `${value.toFixed(4)} (${card[i]!.toFixed(4)})`);
    console.log(
      `${set.padEnd(16)} ${String(queries).padStart(4)} queries ${String(pairs).padStart(5)} pairs  ${cells.join("  ")}`,
    );
  }
  console.log(`largest difference ${worst.toFixed(4)}, bound ${BOUND}`);
  process.exitCode = worst > BOUND ? 1 : 0;
}
