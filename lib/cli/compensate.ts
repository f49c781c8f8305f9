/**
 * `matryoshka compensate`: trains what each exit says of the final score, with the model itself left alone. No labels.
 */
import { assertCanHold } from "../certify/write.js";
import { type ExitData, fitCompensationNetwork } from "../compensate/fit.js";
import type { CompensationTensors } from "../compensate/network.js";
import { writeCompensation } from "../compensate/write.js";
import { MatryoshkaError } from "../errors.js";
import { spread } from "../eval/spread.js";
import { inOrder } from "../in-order.js";
import { nextTurn } from "../next-turn.js";
import { checkScore } from "../options.js";
import { Reranker } from "../reranker.js";
import { CANDIDATES, CANDIDATES_HELP, candidateLists, candidateSource } from "./candidates.js";
import {
  COMMON_HELP,
  type Command,
  choice,
  count,
  MODEL,
  openOptions,
  text,
  UsageError,
  type Values,
} from "./command.js";
import type { List } from "./lists.js";
import type { Output } from "./output.js";

/** Lists that are scored at once: the engine never waits for the next. */
const LOOKAHEAD = 2;
/** Fewer cannot tell a pattern from chance. */
const FEWEST_LISTS = 20;

export const compensate: Command = {
  summary: "train what early exits say of the final score, and how sure they are",
  help: `Usage: matryoshka compensate (--data DIR --run FILE.trec | --pairs FILE.jsonl) [options]

Runs full depth over the candidates of many queries and trains, for every exit, a small network on the row its score is
read from: an estimate of the final logit, and a unit of uncertainty for each document, which the rules top-k, budget and
confidence then use. The model's own scores do not change. The networks go into its matryoshka.safetensors, and its
certificates, made for other estimates, are removed: calibrate anew, with queries that were not used here.

${CANDIDATES_HELP}
  --kind KIND        mlp: a hidden layer on the scoring row. affine: of the exit's logit only. none: removes what is
                     there (default: mlp)
  --units N          hidden units of an mlp (default: 16)
  --lists N          lists used, evenly spread; each 100 lists of 100 candidates take 0.2 GB (default: 300)
  --seed N           of the first weights and the order of lists (default: 1)
  --max-length N     tokens a sequence may have (default: 512 at most)
${COMMON_HELP}

Example: matryoshka compensate --model ./my-model --pairs traffic.jsonl`,
  options: {
    ...MODEL,
    ...CANDIDATES,
    kind: { type: "string" },
    units: { type: "string" },
    lists: { type: "string" },
    seed: { type: "string" },
    "max-length": { type: "string" },
  },
  positionals: 0,

  async run({ values, output, signal }) {
    const { kind, units, seed, limit, score, source } = read(values);
    const open = openOptions(values);
    // Scoring rows are what the CPU gives back; a GPU has scores only.
    const device = open.device === "auto" ? "cpu" : open.device!;
    await using reranker = await Reranker.open(text(values, "model"), { ...open, device });
    const { directory, layers, exitLayers } = reranker.info;
    await assertCanHold(directory);
    const heads = new Map<number, CompensationTensors>();
    const report: { layer: number; before: number; after: number }[] = [];
    const lists = source ? spread(usable(await candidateLists(source, { groupBy: undefined, signal })), limit) : [];
    if (source) {
      const data = await gather(reranker, lists, checkScore(score, reranker.info).maxLength, output, signal);
      for (const [layer, exit] of data) {
        const between = async (pass: number) => {
          output.progress(`layer ${layer} of ${layers}, pass ${pass + 1} …`);
          await nextTurn();
          signal.throwIfAborted();
        };
        const { tensors, before, after } = await fitCompensationNetwork(exit, {
          units,
          seed: `${seed} ${layer}`,
          between,
        });
        heads.set(layer, tensors);
        report.push({ layer, before, after });
        data.delete(layer);
      }
    }
    await writeCompensation(directory, heads, kind, {
      ...(kind === "mlp" && { units }),
      ...{ lists: lists.length, seed, createdFrom: source?.source },
    });
    if (output.json) await output.object({ model: directory, kind, lists: lists.length, exits: report });
    else
      for (const { layer, before, after } of report)
        await output.line(
          `layer ${String(layer).padStart(2)}: likelihood of held-out residuals × ${Math.exp(before - after).toFixed(2)}`,
        );
    const removed = source ? "" : ` Exits ${exitLayers.slice(0, -1).join(", ")} score by their logits.`;
    output.note(`Written to ${directory}.${removed} Certificates have to be made anew: matryoshka calibrate`);
  },
};

function read(values: Values) {
  const kind = choice(values, "kind", ["mlp", "affine", "none"]) ?? "mlp";
  if (kind !== "mlp" && values.units !== undefined) throw new UsageError("--units needs --kind mlp");
  const maxLength = count(values, "max-length");
  const limit = count(values, "lists") ?? 300;
  if (limit < FEWEST_LISTS) throw new UsageError(`--lists needs at least ${FEWEST_LISTS}, got ${limit}`);
  return {
    ...{ kind, units: kind === "mlp" ? (count(values, "units") ?? 16) : 0 },
    seed: text(values, "seed") ?? "1",
    limit,
    score: maxLength === undefined ? {} : { maxLength },
    source: kind === "none" ? undefined : candidateSource(values),
  };
}

/** A list of one document has no order. */
function usable(lists: readonly List[]): List[] {
  const out = lists.filter(({ documents }) => documents.length > 1);
  if (out.length >= FEWEST_LISTS) return out;
  throw new MatryoshkaError(
    "ERR_INVALID_ARGUMENT",
    `Expected at least ${FEWEST_LISTS} queries of two candidates or more to train on, got ${out.length}. Add queries.`,
  );
}

/** By exit layer: every document's scoring row and logits. Throws `ERR_TENSOR_NOT_FINITE` for a model that gives NaN. */
async function gather(
  reranker: Reranker,
  lists: readonly List[],
  maxLength: number,
  output: Output,
  signal: AbortSignal,
): Promise<Map<number, ExitData>> {
  const { exitLayers, hidden } = reranker.info;
  const offsets = new Int32Array(lists.length + 1);
  lists.forEach(({ documents }, i) => {
    offsets[i + 1] = offsets[i]! + documents.length;
  });
  const n = offsets[lists.length]!;
  const finals = new Float32Array(n);
  const data = new Map<number, ExitData>(
    exitLayers.slice(0, -1).map((layer) => {
      const own = { states: new Float32Array(n * hidden), logits: new Float32Array(n) };
      return [layer, { ...own, finals, offsets, hidden }];
    }),
  );
  const scored = inOrder(lists, LOOKAHEAD, signal, async ({ text: query, documents }, i, stop) => {
    const pairs = documents.map((document) => ({ query, document: document.text }));
    return { i, said: await reranker.score(pairs, { maxLength, states: true, signal: stop }) };
  });
  let done = 0;
  for await (const { i, said } of scored) {
    for (const [layer, { states, logits }] of data) {
      states.set(said.states![layer]!, offsets[i]! * hidden);
      logits.set(said.logits[layer]!, offsets[i]!);
    }
    finals.set(said.logits[exitLayers.at(-1)!]!, offsets[i]!);
    output.progress(`${++done} of ${lists.length} queries scored at every layer`);
  }
  for (const { logits } of [...data.values(), { logits: finals }])
    if (!logits.every(Number.isFinite))
      throw new MatryoshkaError("ERR_TENSOR_NOT_FINITE", "Expected finite scores to train on, got NaN or infinity.");
  return data;
}
