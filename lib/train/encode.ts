/**
 * Texts to batches as a configuration says: lengths, and whether matching tokens are marked.
 */
import { unmarkedIds } from "../match-types.js";
import type { NativeBatch } from "../native-engine.js";
import { PackedBatch } from "../packed-batch.js";
import { PairEncoder } from "../pair-encoder.js";
import { loadTokenizer } from "../tokenizer.js";
import type { TrainConfig, TrainEncoder, TrainList } from "./types.js";

/** Throws what `Reranker.open` throws for a checkpoint without a tokenizer that is understood. */
export async function makeEncoder(
  directory: string,
  { maxLength, maxQueryLength, tokenTypes, loss }: TrainConfig,
): Promise<TrainEncoder> {
  const tokenizer = await loadTokenizer(directory);
  const encoder = new PairEncoder(tokenizer, {
    ...{ maxLength, truncation: "document" },
    ...(tokenTypes === "match" && { unmarked: unmarkedIds(tokenizer) }),
  });
  const pack = (lists: readonly { readonly query: string; readonly documents: readonly string[] }[]): NativeBatch => {
    const batch = new PackedBatch();
    for (const { query, documents } of lists) {
      const encoded = encoder.query(query, maxQueryLength);
      for (const [d, document] of documents.entries()) {
        // It yields to let others run, which nobody waits for here.
        for (const _ of encoder.append(encoded, document, batch, d, "a document"));
      }
      batch.endList();
    }
    return batch.view(true);
  };
  return {
    lists(lists: readonly TrainList[]) {
      const candidates = lists.flatMap((list) => list.candidates);
      return {
        ...pack(lists.map((list) => ({ query: list.query, documents: list.candidates.map(({ text }) => text) }))),
        labels: Float32Array.from(candidates, ({ label }) => label),
        teachers: loss.teachers.map((_, t) => Float32Array.from(candidates, ({ teachers }) => teachers[t]!)),
      };
    },
    pairs: (query, documents) => pack([{ query, documents }]),
  };
}
