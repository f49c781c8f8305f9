/**
 * The second teacher of the recipe: the mean of what the bi-encoder and a model in training say, on fewer candidates.
 *
 *   node teach.mjs --sets DIR --model DIR --out DIR [--lists N]
 *
 * SETS is what prepare.py and widen.py wrote. For N lists of each set (default 450, of unlabelled ones MORE times as many),
 * OUT/<set>/runs/both.trec holds the relevant documents, the bi-encoder's first ten and five of the others, by
 * (logit + cosine / 0.03) / 2: both on the scale that the first stage trained logits to. Everything else in OUT is links to
 * SETS.
 */
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { passageText, readCorpus, readQueries, readSplit } from "../../dist/eval/beir.js";
import { Random } from "../../dist/eval/random.js";
import { formatRun, readRun } from "../../dist/eval/trec-run.js";
import { Reranker } from "../../dist/index.js";

const [FIRST, OTHERS] = [10, 5];
const TEMPERATURE = 0.03; // of the bi-encoder as a teacher, in train.json
const MAX_LENGTH = 192;
const QUERY_WORDS = 60;
const MORE = { weak: 3, wide: 6 };

const { values } = parseArgs({
  options: {
    sets: { type: "string" },
    model: { type: "string" },
    out: { type: "string" },
    lists: { type: "string", default: "450" },
  },
});
const [sets, out] = [resolve(values.sets), resolve(values.out)];
const reranker = await Reranker.open(values.model, { dtype: "bf16" });
for (const name of readdirSync(sets).filter((each) => each !== "embeddings")) {
  const from = join(sets, name);
  const to = join(out, name);
  rmSync(to, { recursive: true, force: true });
  mkdirSync(join(to, "runs"), { recursive: true });
  for (const file of ["corpus.jsonl", "queries.jsonl", "qrels"]) symlinkSync(join(from, file), join(to, file));
  const corpus = await readCorpus(join(from, "corpus.jsonl"));
  const queries = await readQueries(join(from, "queries.jsonl"));
  const qrels = await readSplit(from, "train");
  const run = await readRun(join(from, "runs", "bi-encoder.trec"));
  const random = new Random(`teach ${name}`);
  const lists = random.shuffle([...run]).slice(0, Number(values.lists) * (MORE[name] ?? 1));
  const chosen = lists.map(([query, entries]) => {
    const relevant = qrels.get(query);
    const kept = entries.filter(({ id }, i) => i < FIRST || relevant?.get(id) > 0);
    return [query, [...kept, ...random.shuffle(entries.filter((each) => !kept.includes(each))).slice(0, OTHERS)]];
  });
  const requests = chosen.map(([query, entries]) => ({
    query: queries.get(query).split(/\s+/).slice(0, QUERY_WORDS).join(" "),
    documents: entries.map(({ id }) => passageText(corpus.get(id))),
  }));
  const scored = new Map();
  for await (const { results } of reranker.rerankMany(requests, { maxLength: MAX_LENGTH })) {
    const [query, entries] = chosen[scored.size];
    const both = results.map(({ index, logit }) => {
      const { id, score } = entries[index];
      return { id, score: (logit + score / TEMPERATURE) / 2 };
    });
    scored.set(
      query,
      both.sort((a, b) => b.score - a.score),
    );
  }
  writeFileSync(join(to, "runs", "both.trec"), formatRun(scored, "both"));
  console.log(`${name}: ${scored.size} lists`);
}
await reranker.close();
