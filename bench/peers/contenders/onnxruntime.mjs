/** onnxruntime-node on models/onnx. Tokenization and the making of tensors are not counted. */
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import ort from "onnxruntime-node";
import { padded, timed } from "../workload.mjs";

export const files = { f32: "models/onnx/model.onnx", int8: "models/onnx/model_quantized.onnx" };
export const batchSizes = [1, 2, 4, 8, 32];

export async function open(dtype) {
  const path = fileURLToPath(new URL(`../${files[dtype]}`, import.meta.url));
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 2, graphOptimizationLevel: "all" });
  const feeds = (rows) => {
    const { shape, data } = padded(rows);
    return Object.fromEntries(session.inputNames.map((name) => [name, new ort.Tensor("int64", data[name], shape)]));
  };
  return {
    version: createRequire(import.meta.url)("onnxruntime-node/package.json").version,
    prepare: (pairs, size) => timed(pairs, size, feeds, async (input) => (await session.run(input)).logits.data),
  };
}
