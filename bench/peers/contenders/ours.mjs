/** This package, through its public API. `milliseconds` is the engine's own time, `total` includes tokenization. */
import { readFileSync } from "node:fs";
import { Reranker } from "../../../dist/index.js";

/** The engine cuts its own batches: everything goes into one call. */
export const batchSizes = ["all"];

export async function open(dtype) {
  const reranker = await Reranker.open(undefined, { device: "cpu", dtype, threads: 2 });
  const layer = reranker.info.layers;
  return {
    version: JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")).version,
    prepare: (pairs) => async () => {
      const texts = pairs.map(({ query, document }) => ({ query, document }));
      const start = performance.now();
      const { logits, stats } = await reranker.score(texts, { layers: [layer], maxLength: 512 });
      const total = performance.now() - start;
      return { milliseconds: stats.milliseconds.engine, total, logits: [...logits[layer]] };
    },
  };
}
