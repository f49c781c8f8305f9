/**
 * Makes a trained model's sigmoids read as even odds: fits logit' = a × logit + b to labels by logistic regression (Platt
 * 1999), relevant and other candidates weighing the same in sum, and folds a and b into every exit's head. Order, and what
 * exits share, stay as they are.
 *
 *   node centre.mjs --taught DIR --model DIR [--lists N]
 *
 * TAUGHT is what teach.mjs wrote; N lists of each labelled set are scored (default 100). MODEL is changed in place.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { passageText, readCorpus, readQueries, readSplit } from "../../dist/eval/beir.js";
import { readRun } from "../../dist/eval/trec-run.js";
import { Reranker } from "../../dist/index.js";

const UNLABELLED = ["weak", "wide"];
const MAX_LENGTH = 256;

const { values } = parseArgs({
  options: { taught: { type: "string" }, model: { type: "string" }, lists: { type: "string", default: "100" } },
});
const [taught, model] = [resolve(values.taught), resolve(values.model)];

/** [logit, whether it is relevant] of every candidate. */
async function labelled() {
  const reranker = await Reranker.open(model, { dtype: "bf16" });
  const all = [];
  for (const name of readdirSync(taught).filter((each) => !UNLABELLED.includes(each))) {
    const corpus = await readCorpus(join(taught, name, "corpus.jsonl"));
    const queries = await readQueries(join(taught, name, "queries.jsonl"));
    const qrels = await readSplit(join(taught, name), "train");
    const lists = [...(await readRun(join(taught, name, "runs", "both.trec")))].slice(0, Number(values.lists));
    const requests = lists.map(([query, entries]) => ({
      query: queries.get(query),
      documents: entries.map(({ id }) => passageText(corpus.get(id))),
    }));
    let at = 0;
    for await (const { results } of reranker.rerankMany(requests, { maxLength: MAX_LENGTH })) {
      const [query, entries] = lists[at++];
      for (const { index, logit } of results) all.push([logit, qrels.get(query)?.get(entries[index].id) > 0]);
    }
  }
  await reranker.close();
  return all;
}

/** Newton's method on the weighted logistic loss, over standardised logits, where it converges: [a, b]. */
function platt(given) {
  const mean = given.reduce((sum, [x]) => sum + x, 0) / given.length;
  const deviation = Math.sqrt(given.reduce((sum, [x]) => sum + (x - mean) ** 2, 0) / given.length);
  const all = given.map(([x, label]) => [(x - mean) / deviation, label]);
  const relevant = all.filter(([, label]) => label).length;
  const weights = [0.5 / (all.length - relevant), 0.5 / relevant];
  let [a, b] = [0, 0];
  for (let step = 0; step < 50; step++) {
    let [ga, gb, haa, hab, hbb] = [0, 0, 0, 0, 0];
    for (const [x, label] of all) {
      const p = 1 / (1 + Math.exp(-(a * x + b)));
      const weight = weights[Number(label)];
      const [g, h] = [weight * (p - Number(label)), weight * p * (1 - p)];
      ga += g * x;
      gb += g;
      haa += h * x * x;
      hab += h * x;
      hbb += h;
    }
    const determinant = haa * hbb - hab * hab;
    a -= (hbb * ga - hab * gb) / determinant;
    b -= (haa * gb - hab * ga) / determinant;
  }
  return [a / deviation, b - (a * mean) / deviation];
}

const all = await labelled();
const [a, b] = platt(all);
const file = join(model, "matryoshka.safetensors");
const bytes = readFileSync(file);
const start = 8 + Number(bytes.readBigUInt64LE());
for (const [name, { dtype, data_offsets: at }] of Object.entries(JSON.parse(bytes.subarray(8, start).toString()))) {
  if (!name.startsWith("exit.")) continue;
  if (dtype !== "F32") throw new Error(`${name}: expected F32, got ${dtype}`);
  const shift = name.endsWith(".bias") ? b : 0;
  for (let i = start + at[0]; i < start + at[1]; i += 4) bytes.writeFloatLE(a * bytes.readFloatLE(i) + shift, i);
}
writeFileSync(file, bytes);
const settings = join(model, "matryoshka.json");
const json = JSON.parse(readFileSync(settings, "utf8"));
json.provenance.centred = { scale: a, shift: b };
writeFileSync(settings, `${JSON.stringify(json, undefined, 2)}\n`);
const at = (label, p) => {
  const some = all
    .filter((each) => each[1] === label)
    .map(([x]) => a * x + b)
    .sort((x, y) => x - y);
  return (1 / (1 + Math.exp(-some[Math.floor(p * some.length)]))).toFixed(2);
};
console.log(
  `${all.length} candidates: logit' = ${a.toFixed(4)} × logit + ${b.toFixed(4)}; quartiles of the score of relevant ones ` +
    `${[0.25, 0.5, 0.75].map((p) => at(true, p)).join(", ")}, of others ${[0.25, 0.5, 0.75].map((p) => at(false, p)).join(", ")}`,
);
