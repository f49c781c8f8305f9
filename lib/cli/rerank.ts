/**
 * `matryoshka rerank`: documents in, best first out.
 */
import type { Line } from "../eval/lines.js";
import { ACTIVATIONS, TRUNCATIONS } from "../options.js";
import { Reranker } from "../reranker.js";
import type { RerankResult } from "../types.js";
import { COMMON_HELP, type Command, choice, count, layers, MODEL, openOptions, required, text } from "./command.js";
import { EXIT_HELP, parseExit } from "./exit.js";
import { lines, parseObject, stringField } from "./input.js";
import { table } from "./output.js";

/** A document as it came: the line's text, or the whole object of a JSON line. */
type Input = { readonly text: string; readonly id?: unknown; readonly score?: unknown };

export const rerank: Command = {
  summary: "rerank documents for a query",
  help: `Usage: matryoshka rerank --query Q [--docs FILE|-] [options]

Reads one document a line, plain text or JSON objects with "text" (and "id", and the first stage's "score"), from FILE
or stdin; blank lines are left out. Prints the documents best first.

  --query Q          what to look for
  --docs FILE|-      documents (default: stdin)
  --top-n N          how many to print (default: all)
  --exit RULE        when documents stop (default: full):
                     ${EXIT_HELP}
  --deadline MS      end at the next exit after that, with the best estimates so far
  --layers LIST      also show the logits at all exit layers, or at some: 4,8,12
  --max-length N     tokens a sequence may have (default: 512 at most)
  --truncation HOW   document, error or chunk-max (default: document)
  --activation NAME  sigmoid or none (default: sigmoid)
${COMMON_HELP}

Example: cat docs.txt | matryoshka rerank --query "what is a panda?" --top-n 3`,
  options: {
    ...MODEL,
    query: { type: "string" },
    docs: { type: "string" },
    "top-n": { type: "string" },
    exit: { type: "string" },
    deadline: { type: "string" },
    layers: { type: "string" },
    "max-length": { type: "string" },
    truncation: { type: "string" },
    activation: { type: "string" },
  },
  positionals: 0,

  async run({ values, output, signal }) {
    const query = required(values, "query");
    const exit = parseExit(text(values, "exit") ?? "full");
    const topN = count(values, "top-n");
    const maxLength = count(values, "max-length");
    const deadlineMs = count(values, "deadline");
    const wanted = layers(values);
    const truncation = choice(values, "truncation", TRUNCATIONS);
    const activation = choice(values, "activation", ACTIVATIONS);
    const open = openOptions(values);
    const documents: Input[] = [];
    for await (const line of lines(text(values, "docs") ?? "-", signal)) documents.push(toDocument(line));
    const scores = documents.map(({ score }) => score);
    await using reranker = await Reranker.open(text(values, "model"), open);
    output.progress(`reranking ${documents.length} documents on ${reranker.info.backend} …`);
    const response = await reranker.rerank(query, documents, {
      exit,
      signal,
      ...(truncation !== undefined && { truncation }),
      ...(activation !== undefined && { activation }),
      ...(topN !== undefined && { topN }),
      ...(maxLength !== undefined && { maxLength }),
      ...(deadlineMs !== undefined && { deadlineMs }),
      ...(wanted !== undefined && { layers: wanted }),
      ...(scores.every((score) => typeof score === "number") && { firstStageScores: scores }),
      returnDocuments: true,
    });
    if (output.json) return output.object({ query, ...response });
    await output.line(render(response.results));
    const { certificate, partial } = response.stats;
    if (certificate)
      output.note(certificate.holds ? certificate.statement : `No certificate holds. ${certificate.reasons.join(" ")}`);
    if (partial) output.note("The deadline came before full depth: scores are estimates.");
    if (response.stats.truncated > 0)
      output.note(`${response.stats.truncated} documents were cut to fit; see --truncation`);
  },
};

function toDocument(line: Line): Input {
  if (!line.text.trimStart().startsWith("{")) return { text: line.text };
  const object = parseObject(line);
  return { ...object, text: stringField(object, "text", line) };
}

function render(results: readonly RerankResult<Input>[]): string {
  const depths = Object.keys(results[0]?.logits ?? {});
  const heading = ["rank", "score", "layer", ...depths.map((layer) => `@${layer}`), "document"];
  const rows = results.map(({ score, exitLayer, index, document, logits }, i) => [
    i + 1,
    score.toFixed(4),
    exitLayer,
    ...depths.map((layer) => logits![Number(layer)]!.toFixed(2)),
    `${document?.id ?? index}  ${oneLine(document!.text)}`,
  ]);
  return table([heading, ...rows]);
}

function oneLine(document: string): string {
  const flat = document.replace(/\s+/g, " ").trim();
  return flat.length > 90 ? `${flat.slice(0, 89)}…` : flat;
}
