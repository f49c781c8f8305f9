/**
 * What storing a trained model in F16 costs: its weights as training left them, in F32, against the export, both run in
 * f32. Prints how far logits and rankings differ on one set.
 *
 * Run: npm run bench:half -- --run DIR [--set NAME]. DIR is a finished run of `matryoshka train`.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { depthReport } from "../../dist/cli/report.js";
import { column } from "../../dist/exit/trajectory.js";
import { Reranker } from "../../dist/index.js";
import { machine } from "../machine.js";
import { kept, rankings } from "../rankings.js";
import { evaluationSet, missingSets, type SetName, scored } from "../sets.js";
import { writeJson } from "../suites/results.js";

const MAX_LENGTH = 256;
const K = 10;
/** What a checkpoint's state calls the weights, beside the optimiser's moments. */
const WEIGHT = "weight/";

interface Stored {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** The encoder's tensors of a state, F32, as `model.safetensors` names them. */
function encoderOf(state: Buffer): Buffer {
  const start = 8 + Number(state.readBigUInt64LE());
  const header = JSON.parse(state.subarray(8, start).toString()) as Record<string, Stored>;
  const out: Record<string, Stored> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, { dtype, shape, data_offsets: from }] of Object.entries(header)) {
    if (!name.startsWith(WEIGHT) || name.startsWith(`${WEIGHT}exit.`)) continue;
    const size = from[1] - from[0];
    out[name.slice(WEIGHT.length)] = { dtype, shape, data_offsets: [at, at + size] };
    parts.push(state.subarray(start + from[0], start + from[1]));
    at += size;
  }
  const json = Buffer.from(JSON.stringify(out));
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, " ")]);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([size, padded, ...parts]);
}

const { values } = parseArgs({
  options: { run: { type: "string" }, set: { type: "string", default: "trec-dl-21" } },
});
const missing = missingSets();
if (missing) console.log(`skipped: ${missing}`);
else if (!values.run) {
  console.error("Expected --run DIR, a finished run of matryoshka train");
  process.exitCode = 2;
} else {
  const checkpoints = join(values.run, "checkpoints");
  const newest = readdirSync(checkpoints).sort().at(-1)!;
  const exact = mkdtempSync(join(tmpdir(), "matryoshka-half-"));
  try {
    cpSync(join(values.run, "model"), exact, { recursive: true });
    writeFileSync(join(exact, "model.safetensors"), encoderOf(readFileSync(join(checkpoints, newest, "state"))));
    const { lists, qrels } = await evaluationSet(values.set as SetName);
    const of = async (directory: string) => {
      await using reranker = await Reranker.open(directory, { device: "cpu", dtype: "f32" });
      const set = await scored(reranker, lists, "half", { dtype: "f32", maxLength: MAX_LENGTH }, undefined);
      const judge = { qrels, measures: ["nDCG@10"] };
      const { report } = depthReport(reranker.info.layers, set, judge, reranker.info, null);
      const logits = set.lists.map((list) => column(list, set.layers.length, set.layers.length - 1));
      return { ndcg: report.metrics["nDCG@10"]!, logits, orders: rankings(set) };
    };
    const f32 = await of(exact);
    const f16 = await of(join(values.run, "model"));
    let largest = 0;
    f32.logits.forEach((own, i) => {
      own.forEach((each, d) => {
        largest = Math.max(largest, Math.abs(each - f16.logits[i]![d]!));
      });
    });
    const pairs = lists.reduce((sum, { documents }) => sum + documents.length, 0);
    const result = {
      set: values.set,
      pairs,
      largest,
      kept: kept(f16.orders, f32.orders, K),
      f32: f32.ndcg,
      f16: f16.ndcg,
    };
    console.log(
      `${machine().line}\n${values.set}, ${pairs} pairs, full depth, run in f32, up to ${MAX_LENGTH} tokens: logits differ by at most ` +
        `${largest.toFixed(5)}, ${(100 * result.kept).toFixed(2)} % of the first ${K} kept, nDCG@10 ${f32.ndcg.toFixed(4)} in F32, ${f16.ndcg.toFixed(4)} in F16`,
    );
    writeJson("half", result);
  } finally {
    rmSync(exact, { recursive: true, force: true });
  }
}
