/**
 * `matryoshka score`: raw logits of pairs, a JSON line in, a JSON line out, in bounded memory.
 */
import { MatryoshkaError } from "../errors.js";
import { Reranker } from "../reranker.js";
import type { Pair } from "../types.js";
import { COMMON_HELP, type Command, count, layers, MODEL, openOptions, required, text } from "./command.js";
import { lines, parseObject, stringField } from "./input.js";
import type { Output } from "./output.js";

/** Pairs scored together: enough for the engine, few enough that results flow. */
const CHUNK = 512;

/** A pair and the line it stands on. */
interface Item {
  readonly pair: Pair;
  readonly where: string;
}

export const score: Command = {
  summary: "raw logits of (query, document) pairs at exit layers",
  help: `Usage: matryoshka score --pairs FILE.jsonl|- [options]

Reads lines {"query", "document"} and writes, in their order, lines {"index", "scores": {"4": …}} with raw logits in
full precision. What was scored before an error or an interrupt has been written.

  --pairs FILE|-     pairs
  --layers LIST      all, or exit layers such as 4,8,12 (default: all)
  --max-length N     tokens a sequence may have (default: 512 at most)
${COMMON_HELP}

Example: matryoshka score --pairs pairs.jsonl --layers 4,8,12 > scores.jsonl`,
  options: { ...MODEL, pairs: { type: "string" }, layers: { type: "string" }, "max-length": { type: "string" } },
  positionals: 0,

  async run({ values, output, signal }) {
    const file = required(values, "pairs");
    const maxLength = count(values, "max-length");
    const options = { layers: layers(values) ?? "all", signal, ...(maxLength !== undefined && { maxLength }) };
    await using reranker = await Reranker.open(text(values, "model"), openOptions(values));
    let done = 0;
    let truncated = 0;
    const scored = async (items: readonly Item[]): Promise<void> => {
      const {
        layers: depths,
        logits,
        stats,
      } = await reranker.score(
        items.map(({ pair }) => pair),
        options,
      );
      for (let i = 0; i < items.length; i++) await write(output, done + i, depths, logits, i);
      done += items.length;
      truncated += stats.truncated;
      output.progress(`${done} pairs scored`);
    };
    const flush = async (items: readonly Item[]): Promise<void> => {
      try {
        await scored(items);
      } catch (error) {
        if (!isAboutOnePair(error)) throw error;
        // A score does not depend on the pair's company: one by one, what comes before the bad pair is written.
        for (const item of items) await scored([item]).catch((reason) => rethrowAt(item, reason));
      }
    };
    const chunk: Item[] = [];
    let failure: unknown;
    try {
      for await (const line of lines(file, signal)) {
        const object = parseObject(line);
        const pair = { query: stringField(object, "query", line), document: stringField(object, "document", line) };
        chunk.push({ pair, where: line.where });
        if (chunk.length === CHUNK) await flush(chunk.splice(0));
      }
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
    if (chunk.length > 0) await flush(chunk);
    if (truncated > 0) output.note(`${truncated} documents were cut to fit; see --max-length`);
    if (failure) throw failure;
  },
};

function isAboutOnePair(error: unknown): error is MatryoshkaError {
  return error instanceof MatryoshkaError && ["ERR_EMPTY_QUERY", "ERR_INPUT_TOO_LONG"].includes(error.code);
}

function rethrowAt({ where }: Item, error: unknown): never {
  if (!isAboutOnePair(error)) throw error;
  throw new MatryoshkaError(error.code, `${where}: ${error.message}`, { cause: error });
}

async function write(
  output: Output,
  index: number,
  depths: readonly number[],
  logits: Readonly<Record<number, Float32Array>>,
  i: number,
) {
  await output.line(
    JSON.stringify({ index, scores: Object.fromEntries(depths.map((layer) => [layer, logits[layer]![i]!])) }),
  );
}
