/** @huggingface/transformers on the same ONNX files. Tokenization and the making of tensors are not counted. */
import { fileURLToPath } from "node:url";
import { AutoModelForSequenceClassification, env, Tensor } from "@huggingface/transformers";
import { padded, timed } from "../workload.mjs";

export const files = { f32: "models/onnx/model.onnx", int8: "models/onnx/model_quantized.onnx" };
export const batchSizes = [1, 2, 4, 8, 32];

export async function open(dtype) {
  env.allowRemoteModels = false;
  env.localModelPath = fileURLToPath(new URL("..", import.meta.url));
  const model = await AutoModelForSequenceClassification.from_pretrained("models", {
    dtype: { f32: "fp32", int8: "q8" }[dtype],
    device: "cpu",
    session_options: { intraOpNumThreads: 2 },
  });
  const tensors = (rows) => {
    const { shape, data } = padded(rows);
    return Object.fromEntries(Object.entries(data).map(([name, values]) => [name, new Tensor("int64", values, shape)]));
  };
  return {
    version: env.version,
    prepare: (pairs, size) => timed(pairs, size, tensors, async (input) => (await model(input)).logits.data),
  };
}
