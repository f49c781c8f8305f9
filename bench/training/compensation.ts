/**
 * What compensation is worth: the bundled model with none, with affine maps and with small networks, each certified for
 * the first ten on the same queries, and its compute replayed on sets that neither was made on. Prints a markdown table
 * and writes bench/results/compensation.json.
 *
 * Run: npm run bench:compensation [-- --store DIR]. Reads BEIR directories under ../shared/data; networks learn from the
 * training sets' queries with BM25's candidates, certificates come from the pool of certify.ts. No labels are read.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { beirLists } from "../../dist/cli/lists.js";
import { depthReport, ruleReport } from "../../dist/cli/report.js";
import { spread } from "../../dist/eval/spread.js";
import { readRun } from "../../dist/eval/trec-run.js";
import { fingerprint } from "../../dist/fingerprint.js";
import { Reranker } from "../../dist/index.js";
import { calibrations } from "../certify.js";
import { machine } from "../machine.js";
import { evaluationSet, MAX_LENGTH, missingSets, scored } from "../sets.js";
import { writeJson } from "../suites/results.js";

const KINDS = ["none", "affine", "mlp"] as const;
const SETS = ["trec-dl-21", "dbpedia-entity-small"] as const;
const DTYPE = "bf16";
const RULE = { k: 10, alpha: 0.05, delta: 0.05 };
/** Queries to learn from, of each of these. */
const LEARNT: Readonly<Record<string, string>> = {
  "nq-gold": "bm25.test.trec",
  scitldr: "bm25.train.trec",
  pubmedqa: "bm25.test.trec",
};
const LISTS = 60;

const root = fileURLToPath(new URL("../..", import.meta.url));
const train = fileURLToPath(new URL("../../../shared/data/train", import.meta.url));

async function traffic(file: string): Promise<void> {
  const lines: string[] = [];
  for (const [name, run] of Object.entries(LEARNT)) {
    const directory = join(train, name);
    const entries = [...(await readRun(join(directory, "runs", run)))];
    const some = new Map(spread(entries, LISTS));
    for (const { text, documents } of await beirLists(directory, some, { depth: 30 }))
      lines.push(JSON.stringify({ query: text, documents: documents.map((each) => each.text) }));
  }
  writeFileSync(file, `${lines.join("\n")}\n`);
}

const { values } = parseArgs({ options: { store: { type: "string" } } });
const missing = missingSets();
if (missing) console.log(`skipped: ${missing}`);
else {
  const scratch = mkdtempSync(join(tmpdir(), "matryoshka-compensation-"));
  try {
    const pairs = join(scratch, "traffic.jsonl");
    await traffic(pairs);
    const about = machine();
    console.log(
      `${about.line}\n${DTYPE}, certified first ${RULE.k}, α = δ = 5 %, BM25's top 100; each cell: compute, exact, change of nDCG@10\n`,
    );
    console.log(`| compensation | calibration queries | ${SETS.join(" | ")} |\n|---|${"---|".repeat(SETS.length + 1)}`);
    const rows: object[] = [];
    for (const kind of KINDS) {
      const directory = join(scratch, kind);
      cpSync(join(root, "models", "default"), directory, { recursive: true });
      const command = [join(root, "dist", "cli", "main.js"), "compensate", "--model", directory, "--dtype", DTYPE];
      const given = kind === "none" ? [] : ["--pairs", pairs, "--lists", `${LISTS * Object.keys(LEARNT).length}`];
      const { status } = spawnSync(process.execPath, [...command, "--kind", kind, ...given], {
        stdio: ["ignore", "ignore", "inherit"],
      });
      if (status !== 0) throw new Error(`compensate --kind ${kind} ended with ${status}`);
      await using reranker = await Reranker.open(directory, { device: "cpu", dtype: DTYPE });
      const store = values.store && join(values.store, `compensation-${kind}`);
      const { made } = await calibrations(reranker, DTYPE, store);
      const certificates = made.flatMap((each) => (each.feasible ? [each.certificate] : []));
      const certificate = certificates.find(
        ({ k, alpha, delta }) => k === RULE.k && alpha === RULE.alpha && delta === RULE.delta,
      );
      const conditions = { dtype: DTYPE, maxLength: MAX_LENGTH } as const;
      const print = await fingerprint(directory, conditions);
      const cells: { set: string; compute: number; exact: number; change: number }[] = [];
      for (const name of SETS) {
        const { lists, qrels } = await evaluationSet(name);
        const set = await scored(reranker, lists, name, conditions, store);
        const judge = { qrels, measures: ["nDCG@10"] };
        const exit = { type: "top-k", ...RULE } as const;
        const { report } = ruleReport(
          { words: "top-k:10:0.05", exit, certificates, fingerprint: print, wall: undefined },
          set,
          judge,
          reranker.info,
        );
        const full = depthReport(reranker.info.layers, set, judge, reranker.info, null).report.metrics["nDCG@10"]!;
        cells.push({
          set: name,
          compute: report.computeFraction,
          exact: report.exactTopK,
          change: report.metrics["nDCG@10"]! - full,
        });
      }
      const compute = certificate?.computeFraction ?? 1;
      rows.push({ kind, calibration: compute, cells });
      const cell = ({ compute, exact, change }: (typeof cells)[number]) =>
        `${compute.toFixed(3)}, ${(100 * exact).toFixed(0)} %, ${change.toFixed(4)}`;
      console.log(`| ${kind} | ${compute.toFixed(3)} | ${cells.map(cell).join(" | ")} |`);
    }
    writeJson("compensation", {
      dtype: DTYPE,
      maxLength: MAX_LENGTH,
      ...RULE,
      lists: LISTS * Object.keys(LEARNT).length,
      rows,
    });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
