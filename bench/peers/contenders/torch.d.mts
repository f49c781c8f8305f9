/** Types of what TypeScript benchmarks use of torch.mjs. */
import type { EncodedPair } from "../workload.mjs";

export function missing(device?: string): string | undefined;

export function open(
  dtype: string,
  device?: string,
): Promise<{
  readonly version: string;
  close(): void;
  prepare(
    pairs: readonly EncodedPair[],
    size: number,
  ): () => Promise<{ readonly milliseconds: number; readonly logits: readonly number[] }>;
}>;
