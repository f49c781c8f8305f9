/**
 * node-llama-cpp's ranking context, which takes one pair at a time. Tokenization is not counted. llama.cpp knows no
 * segments: both texts get token type 0, so its logits cannot agree with the others'.
 */
import { fileURLToPath } from "node:url";
import { getLlama, getModuleVersion } from "node-llama-cpp";
import { timed } from "../workload.mjs";

export const files = { f32: "models/model-f32.gguf", q8_0: "models/model-q8_0.gguf" };
export const batchSizes = [1];

export async function open(dtype) {
  const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
  const model = await llama.loadModel({ modelPath: fileURLToPath(new URL(`../${files[dtype]}`, import.meta.url)) });
  const template = "[CLS]{{query}}[SEP]{{document}}[SEP]";
  const context = await model.createRankingContext({ contextSize: 512, batchSize: 512, threads: 2, template });
  const tokens = ([{ query, document }]) => [query, document].map((text) => model.tokenize(text));
  const score = async ([query, document]) => {
    const p = await context.rank(query, document);
    return [Math.log(p / (1 - p))];
  };
  return {
    version: await getModuleVersion(),
    prepare: (pairs, size) => timed(pairs, size, tokens, score),
  };
}
