/**
 * The bundled model's certificates: calibrated on training queries of two evaluation sets, whose labels are not read.
 *
 * Run: npm run certify [-- --dtype bf16] [--queries N, of each set] [--store DIR] [--write]. Without --write, it says what
 * it would certify.
 * Reads BEIR directories under ../shared/data/eval; a killed run goes on.
 */
import { parseArgs } from "node:util";
import { type Calibration, calibrator, type Target } from "../dist/certify/calibrate.js";
import { statement } from "../dist/certify/certificate.js";
import { addCertificates } from "../dist/certify/write.js";
import type { TrajectorySet } from "../dist/exit/trajectory.js";
import { fingerprint } from "../dist/fingerprint.js";
import type { Dtype, Reranker } from "../dist/index.js";
import { calibrationLists, MAX_LENGTH, POOL_QUERIES, scored, withModel } from "./sets.js";

/** 1 % needs 299 calibration queries for a δ of 5 %, and 99 for a promise that holds on average over calibrations. */
const TARGETS: readonly Target[] = [
  ...[1, 3, 5, 10, 20].map((k) => ({ k, alpha: 0.05, delta: 0.05 })),
  { k: 10, alpha: 0.1, delta: 0.05 },
  { k: 10, alpha: 0.01, delta: null },
  ...[5, 10, 20].map((k) => ({ kind: "recall-top-k" as const, k, alpha: 0.05, delta: 0.05 })),
];

/** What every command that calibrates on the pool can be asked; `queries` are of each set. */
export const CALIBRATION_OPTIONS = {
  dtype: { type: "string", default: "f32" },
  queries: { type: "string", default: String(POOL_QUERIES) },
  store: { type: "string" },
} as const;

/** Calibrates targets on the pool's trajectories. */
export async function calibrations(
  reranker: Reranker,
  dtype: Dtype,
  store: string | undefined,
  { targets = TARGETS, queries }: { readonly targets?: readonly Target[]; readonly queries?: number } = {},
): Promise<{ set: TrajectorySet; made: Calibration[] }> {
  const lists = await calibrationLists(queries);
  const conditions = { dtype, maxLength: MAX_LENGTH };
  const set = await scored(reranker, lists, `calibration-${dtype}`, conditions, store);
  const print = await fingerprint(reranker.info.directory, conditions);
  const createdFrom = `${lists.length} training queries of NFCorpus and SciFact with BM25's first 100; no labels`;
  return { set, made: targets.map(calibrator(set, { fingerprint: print, cost: reranker.info, createdFrom })) };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      ...CALIBRATION_OPTIONS,
      device: { type: "string" },
      write: { type: "boolean", default: false },
    },
  });
  await withModel(values, async (reranker, dtype) => {
    const { made } = await calibrations(reranker, dtype, values.store, { queries: Number(values.queries) });
    const certificates = made.flatMap((each) => (each.feasible ? [each.certificate] : []));
    for (const each of made) {
      if (!each.feasible) console.log(each.reason);
      else
        console.log(
          `${statement(each.certificate)} There: ${(100 * each.certificate.computeFraction).toFixed(1)} % of full compute.`,
        );
    }
    if (values.write) await addCertificates(reranker.info.directory, certificates);
  });
}

if (process.argv[1] === new URL(import.meta.url).pathname) await main();
