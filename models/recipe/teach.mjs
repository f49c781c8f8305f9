/**
 * The second teacher of the recipe: the mean of what the bi-encoder and models in training say, on fewer candidates.
 *
 *   node teach.mjs --sets DIR --model DIR [--model DIR …] --out DIR [--lists N] [--device cuda]
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
// hop.py's lists have one teacher, the bi-encoder.
const NOT_TAUGHT = ["embeddings", "hop"];

const { values } = parseArgs({
  options: {
    sets: { type: "string" },
    model: { type: "string", multiple: true },
    device: { type: "string", default: "cpu" },
    out: { type: "string" },
    lists: { type: "string", default: "450" },
  },
});
const [sets, out] = [resolve(values.sets), resolve(values.out)];
const models = [];
for (const model of values.model) models.push(await Reranker.open(model, { device: values.device, dtype: "bf16" }));

/** Of each request's documents, the mean of the models' logits. */
async function logitsOf(requests) {
  const sums = requests.map(({ documents }) => new Float64Array(documents.length));
  for (const model of models) {
    let at = 0;
    for await (const { results } of model.rerankMany(requests, { maxLength: MAX_LENGTH })) {
      for (const { index, logit } of results) sums[at][index] += logit / models.length;
      at++;
    }
  }
  return sums;
}

for (const name of readdirSync(sets).filter((each) => !NOT_TAUGHT.includes(each))) {
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
  const logits = await logitsOf(requests);
  const scored = new Map(
    chosen.map(([query, entries], i) => {
      const both = entries.map(({ id, score }, d) => ({ id, score: (logits[i][d] + score / TEMPERATURE) / 2 }));
      return [query, both.sort((a, b) => b.score - a.score)];
    }),
  );
  writeFileSync(join(to, "runs", "both.trec"), formatRun(scored, "both"));
  console.log(`${name}: ${scored.size} lists`);
}
for (const model of models) await model.close();
