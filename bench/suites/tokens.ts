/**
 * Workload W as the engine takes it: one packed batch of token ids.
 */
import type { NativeBatch } from "../../dist/native-engine.js";
import { PackedBatch } from "../../dist/packed-batch.js";
import { PairEncoder } from "../../dist/pair-encoder.js";
import { loadTokenizer } from "../../dist/tokenizer.js";
import { workload } from "../workload.js";

const MAX_LENGTH = 512;

export async function packedWorkload(directory: string): Promise<{ batch: NativeBatch; lengths: number[] }> {
  const encoder = new PairEncoder(await loadTokenizer(directory), { maxLength: MAX_LENGTH, truncation: "document" });
  const batch = new PackedBatch();
  const pairs = workload();
  pairs.forEach(({ query, document }, i) => {
    batch.endList();
    // It yields only to let others run.
    for (const _ of encoder.append(encoder.query(query), document, batch, i, `W[${i}]`));
  });
  return { batch: batch.view(true), lengths: pairs.map((_, i) => batch.lengthOf(i)) };
}
