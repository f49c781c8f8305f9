/**
 * Workload W: 256 real (query, document) pairs, mean 104.8 tokens, longest 418 (BERT uncased). Each line of
 * data/w.jsonl names its source and licence (CC BY or CC BY-SA).
 */
import { readFileSync } from "node:fs";

export interface WorkloadPair {
  readonly source: string;
  readonly licence: string;
  readonly query: string;
  readonly document: string;
}

export function workload(): WorkloadPair[] {
  const lines = readFileSync(new URL("./data/w.jsonl", import.meta.url), "utf8")
    .trimEnd()
    .split("\n");
  return lines.map((line) => JSON.parse(line) as WorkloadPair);
}
