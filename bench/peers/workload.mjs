/**
 * Workload W in tokens: its pairs as the default model's tokenizer encodes them, cut into batches of like lengths.
 */
import { readFileSync } from "node:fs";
import { Tokenizer } from "@huggingface/tokenizers";

const json = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
const model = "../../models/default";

/**
 * `all` 256 pairs; every fourth of them as the `sample` that batch sizes are chosen on; and for the latency of one
 * `query`, W's first with its first 100 documents.
 */
export function workloads() {
  const lines = readFileSync(new URL("../data/w.jsonl", import.meta.url), "utf8")
    .trimEnd()
    .split("\n");
  const pairs = lines.map((line) => JSON.parse(line));
  const tokenizer = new Tokenizer(json(`${model}/tokenizer.json`), json(`${model}/tokenizer_config.json`));
  const encode = ({ query, document }) => {
    const { ids, token_type_ids: types } = tokenizer.encode(query, {
      text_pair: document,
      return_token_type_ids: true,
    });
    return { query, document, ids, types };
  };
  const all = pairs.map(encode);
  return {
    all,
    sample: all.filter((_, i) => i % 4 === 0),
    query: pairs.slice(0, 100).map(({ document }) => encode({ query: pairs[0].query, document })),
  };
}

/** Batches of `size` pairs, longest first, so that little is padded: arrays of indices into `pairs`. */
export function batches(pairs, size) {
  const order = pairs.map((_, i) => i).sort((a, b) => pairs[b].ids.length - pairs[a].ids.length);
  return Array.from({ length: Math.ceil(order.length / size) }, (_, i) => order.slice(i * size, (i + 1) * size));
}

/** The three BERT inputs of a batch, padded to its longest pair: int64 arrays and their shape. */
export function padded(rows) {
  const width = Math.max(...rows.map(({ ids }) => ids.length));
  const make = () => new BigInt64Array(rows.length * width);
  const data = { input_ids: make(), attention_mask: make(), token_type_ids: make() };
  rows.forEach(({ ids, types }, i) => {
    ids.forEach((id, j) => {
      data.input_ids[i * width + j] = BigInt(id);
      data.attention_mask[i * width + j] = 1n;
      data.token_type_ids[i * width + j] = BigInt(types[j]);
    });
  });
  return { shape: [rows.length, width], data };
}

/** Runs `score(input)` over prepared batches and times it; `score` returns one logit per pair of its batch. */
export function timed(pairs, size, prepare, score) {
  const prepared = batches(pairs, size).map((indices) => ({ indices, input: prepare(indices.map((i) => pairs[i])) }));
  return async () => {
    const logits = new Array(pairs.length);
    const start = performance.now();
    for (const { indices, input } of prepared) {
      const scores = await score(input);
      indices.forEach((at, i) => {
        logits[at] = scores[i];
      });
    }
    return { milliseconds: performance.now() - start, logits };
  };
}
