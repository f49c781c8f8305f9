/**
 * One full-depth pass over lists, kept on disk: whatever a killed run finished, the next one does not score again.
 */
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Fingerprint } from "../certify/certificate.js";
import { interleave, type TrajectorySet } from "../exit/trajectory.js";
import { type Conditions, TrajectoryStore } from "../exit/trajectory-store.js";
import { inOrder } from "../in-order.js";
import type { Reranker } from "../reranker.js";
import type { List } from "./lists.js";
import { lock } from "./lock.js";
import type { Output } from "./output.js";

/** Lists that are scored at once: the engine never waits for the next. */
const LOOKAHEAD = 4;

export interface PassOptions {
  readonly fingerprint: Fingerprint;
  /** Where stores are kept. Defaults to `matryoshka-rerank` in the user's cache. */
  readonly directory?: string | undefined;
  /** Begins the store's file name. */
  readonly name: string;
  readonly output: Output;
  readonly signal: AbortSignal;
}

/** Of `--store`, for the commands' help. */
export const STORE_HELP = `  --store DIR        keeps every layer's scores there, so that a killed run goes on where it
                     stopped (default: matryoshka-rerank in the user's cache)`;

/**
 * Scores at every exit of every list. A store is tied to the model, the conditions and all texts, so it is never used
 * for others. Throws `ERR_ABORTED` with what was finished on disk.
 */
export async function trajectories(
  reranker: Reranker,
  lists: readonly List[],
  { fingerprint, directory = cacheDirectory(), name, output, signal }: PassOptions,
): Promise<TrajectorySet> {
  const layers = reranker.info.exitLayers;
  const conditions: Conditions = { ...fingerprint, backend: backend(reranker), data: digest(serialized(lists)) };
  const file = `${name.replace(/[^\w.-]+/g, "-").slice(0, 100)}-${digest([JSON.stringify([layers, conditions])]).slice(0, 16)}.jsonl`;
  const path = join(directory, file);
  const { release } = lock(path);
  let store: TrajectoryStore | undefined;
  try {
    store = TrajectoryStore.open(path, layers, conditions);
    return await fill(store, reranker, lists, { fingerprint, output, signal });
  } finally {
    store?.close();
    release();
  }
}

/** Scores what the store does not have yet. */
async function fill(
  store: TrajectoryStore,
  reranker: Reranker,
  lists: readonly List[],
  { fingerprint, output, signal }: Pick<PassOptions, "fingerprint" | "output" | "signal">,
): Promise<TrajectorySet> {
  const missing = lists.filter(({ query }) => !store.has(query));
  if (missing.length > 0 && missing.length < lists.length)
    output.note(`${lists.length - missing.length} of ${lists.length} queries are in ${store.path}`);
  const start = performance.now();
  let pairs = 0;
  let done = 0;
  const scored = inOrder(missing, LOOKAHEAD, signal, async (list, _, stop) => {
    const wanted = list.documents.map(({ text }) => ({ query: list.text, document: text }));
    return { list, said: await reranker.score(wanted, { maxLength: fingerprint.maxLength, signal: stop }) };
  });
  for await (const { list, said } of scored) {
    const { query, text, documents, firstStage } = list;
    store.add({
      ...{ query, text, documents: documents.map(({ id }) => id) },
      tokens: said.tokens,
      scores: interleave(store.layers, said.logits),
      estimates: said.estimates && interleave(store.layers, said.estimates),
      units: said.units && interleave(store.layers, said.units),
      ...(firstStage && { firstStage: Float32Array.from(firstStage) }),
    });
    pairs += documents.length;
    const rate = Math.round(pairs / ((performance.now() - start) / 1e3));
    output.progress(`${++done} of ${missing.length} queries scored at every layer, ${rate} pairs/s`);
  }
  return store.set(lists.map(({ query }) => query));
}

/** What ran it, without the number of threads, which changes no score. */
function backend({ info }: Reranker): string {
  return (info.backend ?? "").replace(/ \d+ threads?$/, "");
}

/** One list at a time: all together may exceed the longest string. Groups change no score. */
function* serialized(lists: readonly List[]): Generator<string> {
  for (const { query, text, documents, firstStage } of lists)
    yield JSON.stringify([query, text, documents, firstStage ?? null]);
}

function digest(parts: Iterable<string>): string {
  const sha = createHash("sha256");
  for (const part of parts) sha.update(part);
  return sha.digest("hex");
}

function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "matryoshka-rerank");
}
