/**
 * `matryoshka score`: raw logits of pairs, a JSON line in, a JSON line out, in bounded memory.
 */
import { Reranker } from "../reranker.js";
import type { Pair } from "../types.js";
import { COMMON_HELP, type Command, count, layers, MODEL, openOptions, required, text } from "./command.js";
import { lines, parseObject, stringField } from "./input.js";
import type { Output } from "./output.js";

/** Pairs scored together: enough for the engine, few enough that results flow. */
const CHUNK = 512;

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
    const flush = async (pairs: Pair[]) => {
      const { layers: depths, logits } = await reranker.score(pairs, options);
      for (let i = 0; i < pairs.length; i++) await write(output, done + i, depths, logits, i);
      done += pairs.length;
      output.progress(`${done} pairs scored`);
    };
    const chunk: Pair[] = [];
    let failure: unknown;
    try {
      for await (const line of lines(file, signal)) {
        const object = parseObject(line);
        chunk.push({ query: stringField(object, "query", line), document: stringField(object, "document", line) });
        if (chunk.length === CHUNK) await flush(chunk.splice(0));
      }
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
    if (chunk.length > 0) await flush(chunk);
    if (failure) throw failure;
  },
};

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
