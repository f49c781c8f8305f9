/**
 * This package, through its public API. `milliseconds` is the engine's own time, `total` includes tokenization.
 *
 * The bundled model's heads are conditioned on the query, which peers have no operator for: everybody, we too, runs it with
 * the heads' constant part alone.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_MODEL, Reranker } from "../../../dist/index.js";

/** The bundled model with linear heads, in a directory of its own. */
function linearTwin() {
  const directory = mkdtempSync(join(tmpdir(), "matryoshka-peers-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  for (const file of readdirSync(DEFAULT_MODEL)) symlinkSync(join(DEFAULT_MODEL, file), join(directory, file));
  const settings = JSON.parse(readFileSync(join(DEFAULT_MODEL, "matryoshka.json"), "utf8"));
  rmSync(join(directory, "matryoshka.json"));
  writeFileSync(
    join(directory, "matryoshka.json"),
    JSON.stringify({ ...settings, head: "linear", certificates: undefined }),
  );
  return directory;
}

/** The engine cuts its own batches: everything goes into one call. */
export const batchSizes = ["all"];

export async function open(dtype) {
  const reranker = await Reranker.open(linearTwin(), { device: "cpu", dtype, threads: 2 });
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
