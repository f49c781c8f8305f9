/**
 * `npm run demo`: real passages reranked by the bundled model, layer by layer.
 */
import { readFileSync } from "node:fs";
import { machine, Reranker } from "../dist/index.js";

interface Demo {
  readonly source: string;
  readonly licence: string;
  readonly note: string;
  readonly queries: readonly { id: string; text: string; candidates: string[]; relevant: string[] }[];
  readonly passages: readonly { id: string; title: string; text: string }[];
}

const SHOWN = 5;
const DEPTHS = [4, 8, 12] as const;

const demo = JSON.parse(readFileSync(new URL("./data/demo.json", import.meta.url), "utf8")) as Demo;
const passages = new Map(demo.passages.map((p) => [p.id, p]));
const bold = (words: string) => (process.stdout.isTTY ? `\x1b[1m${words}\x1b[0m` : words);
const clipped = (words: string, width: number) =>
  words.length > width ? `${words.slice(0, width - 1)}…` : words.padEnd(width);

const opening = performance.now();
await using reranker = await Reranker.open();
const opened = performance.now() - opening;

const { info } = reranker;
console.log(
  `${info.family}, ${info.layers} layers × ${info.hidden}, an exit after each; runs on ${info.backend}, opened in ${opened.toFixed(0)} ms`,
);
console.log(`${demo.passages.length} passages, ${demo.queries.length} queries. ${demo.source}, ${demo.licence}.`);
console.log(demo.note);

let pairs = 0;
let tokens = 0;
let milliseconds = 0;
for (const { text, candidates, relevant } of demo.queries) {
  const documents = candidates.map((id) => ({ id, text: `${passages.get(id)!.title} ${passages.get(id)!.text}` }));
  const { results, stats } = await reranker.rerank(text, documents, { layers: DEPTHS, returnDocuments: true });
  pairs += documents.length;
  tokens += stats.tokens;
  milliseconds += stats.milliseconds.total;

  // How the list looks if everybody stops at a depth: sorted by that exit's own logit.
  const orders = DEPTHS.map((layer) => results.toSorted((a, b) => b.logits![layer]! - a.logits![layer]!));
  console.log(`\n${bold(text)}`);
  console.log(`${"".padEnd(6)}${DEPTHS.map((layer) => `after ${layer} layers`.padEnd(40)).join("")}`.trimEnd());
  for (let rank = 0; rank < SHOWN; rank++) {
    const cells = orders.map((order, i) => {
      const { document, logits } = order[rank]!;
      const mark = relevant.includes(document!.id) ? "*" : " ";
      return `${logits![DEPTHS[i]!]!.toFixed(2).padStart(6)} ${mark} ${clipped(passages.get(document!.id)!.title, 29)}  `;
    });
    console.log(`${String(rank + 1).padStart(4)}  ${cells.join("")}`.trimEnd());
  }
  const places = orders.map((order) => order.findIndex((r) => relevant.includes(r.document!.id)) + 1);
  const bm25 = candidates.findIndex((id) => relevant.includes(id)) + 1;
  console.log(
    `      the judged passage (*) is at rank ${places.join(", ")} after ${DEPTHS.join(", ")} layers; BM25 had it at ${bm25}`,
  );
  const best = results[0]!;
  console.log(`      best: ${best.score.toFixed(3)}  ${passages.get(best.document!.id)!.text.slice(0, 150).trim()}…`);
}

const seconds = milliseconds / 1e3;
console.log(
  `\n${pairs} pairs, ${tokens} tokens in ${seconds.toFixed(2)} s, tokenization included: ${(pairs / seconds).toFixed(0)} pairs/s at full depth`,
);
console.log(`${info.backend}; ${machine().features.join(" ")}; Node ${process.version}`);
