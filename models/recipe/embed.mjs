/**
 * The bi-encoder of the recipe, run by this package: texts to unit vectors of the [CLS] row after the last layer.
 *
 *   node embed.mjs DIR     DIR: a BERT encoder in Hugging Face layout, without a head
 *
 * A line of stdin, { "texts": FILE, "out": FILE, "length": TOKENS }, asks for one file of vectors, f32, in the order of the
 * texts (a JSON array); the same line comes back once it is written.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { native } from "../../dist/native.js";
import { loadTokenizer } from "../../dist/tokenizer.js";

const BATCH = 16384; // tokens
const encoder = resolve(process.argv[2]);
const { num_hidden_layers: layers, hidden_size: hidden } = JSON.parse(readFileSync(join(encoder, "config.json"), "utf8"));

// The engine wants something that scores: a head of zeros beside the encoder's own files.
const directory = mkdtempSync(join(tmpdir(), "matryoshka-encoder-"));
for (const file of readdirSync(encoder)) if (!file.startsWith("matryoshka")) symlinkSync(join(encoder, file), join(directory, file));
writeFileSync(join(directory, "matryoshka.json"), JSON.stringify({ formatVersion: 1, exitLayers: [layers], head: "linear", compensation: "none" }));
const header = Buffer.from(
  JSON.stringify({
    [`exit.${layers}.weight`]: { dtype: "F32", shape: [1, hidden], data_offsets: [0, 4 * hidden] },
    [`exit.${layers}.bias`]: { dtype: "F32", shape: [1], data_offsets: [4 * hidden, 4 * hidden + 4] },
  }),
);
const size = Buffer.alloc(8);
size.writeBigUInt64LE(BigInt(header.length));
writeFileSync(join(directory, "matryoshka.safetensors"), Buffer.concat([size, header, Buffer.alloc(4 * hidden + 4)]));

const tokenizer = await loadTokenizer(directory);
const engine = new (native().Engine)(directory, { device: "cpu", dtype: "bf16", threads: 2, isa: "" });
await engine.ready;
const ends = tokenizer.template.single.filter(({ kind }) => kind === "special").map(({ id }) => id);

/** Unit vectors [texts.length × hidden]. Texts of like length go through together. */
async function embed(texts, length) {
  const tokens = texts.map((text) => tokenizer.encode(text).subarray(0, length - 2));
  const order = texts.map((_, i) => i).sort((a, b) => tokens[a].length - tokens[b].length);
  const vectors = new Float32Array(texts.length * hidden);
  let pending = Promise.resolve();
  for (let at = 0; at < order.length; ) {
    const some = [];
    const cuSeqlens = [0];
    while (at < order.length && (some.length === 0 || cuSeqlens.at(-1) + tokens[order[at]].length + 2 <= BATCH)) {
      cuSeqlens.push(cuSeqlens.at(-1) + tokens[order[at]].length + 2);
      some.push(order[at++]);
    }
    const tokenIds = new Int32Array(cuSeqlens.at(-1));
    for (const [i, text] of some.entries()) {
      tokenIds[cuSeqlens[i]] = ends[0];
      tokenIds.set(tokens[text], cuSeqlens[i] + 1);
      tokenIds[cuSeqlens[i + 1] - 1] = ends[1];
    }
    const batch = { tokenIds, cuSeqlens: Int32Array.from(cuSeqlens), listOffsets: Int32Array.of(0, some.length) };
    const { promise } = engine.submit(batch, { depth: layers, layers: [layers], states: true });
    await pending;
    pending = promise.then(({ states }) => {
      for (const [i, text] of some.entries()) {
        const row = states.subarray(i * hidden, (i + 1) * hidden);
        const norm = Math.hypot(...row);
        for (let j = 0; j < hidden; j++) vectors[text * hidden + j] = row[j] / norm;
      }
    });
  }
  await pending;
  return vectors;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { texts, out, length } = JSON.parse(line);
  writeFileSync(out, await embed(JSON.parse(readFileSync(texts, "utf8")), length));
  console.log(line);
}
engine.close();
rmSync(directory, { recursive: true });
