/**
 * `matryoshka doctor`: what this machine has, what was chosen and why, and a self-test with a known answer.
 */
import { availableParallelism, cpus, totalmem } from "node:os";
import { MatryoshkaError } from "../errors.js";
import { addonFile, type NativeGpus, native } from "../native.js";
import { Reranker } from "../reranker.js";
import { chooseDtype, machine } from "../resolve.js";
import type { Dtype } from "../types.js";
import type { Command } from "./command.js";
import { table } from "./output.js";

/** A question whose logits on the bundled model are known: from the reference device, in double precision. */
const KNOWN = {
  query: "what is a panda?",
  documents: [
    "The giant panda is a bear species endemic to China.",
    "Bread is a staple food prepared from a dough of flour and water.",
  ],
  logits: [2.435446, -4.1709504],
};

type CpuDtype = Exclude<Dtype, "auto" | "f16">;

/** How far a dtype may be from the known logits, absolutely. */
const TOLERANCE: Readonly<Record<CpuDtype, number>> = { f32: 2e-4, bf16: 0.15, int8: 0.3 };

export const doctor: Command = {
  summary: "what this machine has, what was chosen and why, and a self-test",
  help: `Usage: matryoshka doctor [--json]

Exits with 1 if the self-test of the bundled model fails.`,
  options: {},
  positionals: 0,

  async run({ output }) {
    const { isas, features } = machine();
    const chosen = chooseDtype(machine());
    const gpus = native().gpus();
    const tests = [];
    for (const dtype of ["f32", "bf16", "int8"] as const) tests.push(await selfTest(dtype));
    const report = {
      node: process.version,
      platform: `${process.platform}-${process.arch}`,
      cpu: cpus()[0]?.model ?? "unknown",
      threads: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      addon: addonFile(),
      instructionSets: isas,
      features,
      device: { chosen: "cpu", reason: describeGpus(gpus) },
      gpus,
      dtype: { chosen: chosen.dtype, reason: chosen.reason },
      isa: process.env.MATRYOSHKA_ISA ? { forced: process.env.MATRYOSHKA_ISA } : { chosen: isas[0] },
      selfTest: tests,
    };
    if (output.json) await output.object(report);
    else
      await output.line(
        table([
          ["node", `${report.node} on ${report.platform}`],
          ["cpu", `${report.cpu}, ${report.threads} threads, ${report.memoryGiB} GiB`],
          ["addon", report.addon],
          ["features", features.join(" ") || "none that the kernels use"],
          [
            "instruction set",
            process.env.MATRYOSHKA_ISA
              ? `${process.env.MATRYOSHKA_ISA} (forced)`
              : `${isas[0]} (of ${isas.join(", ")})`,
          ],
          ["device", `cpu: ${report.device.reason}`],
          ["dtype", `${chosen.dtype}: ${chosen.reason}`],
          ...tests.map((t) => [
            `self-test ${t.dtype}`,
            `${t.passed ? "passed" : "FAILED"} on ${t.backend}, off by ${t.error.toExponential(1)} (limit ${t.limit})`,
          ]),
        ]),
      );
    if (!tests.every((t) => t.passed))
      throw new MatryoshkaError(
        "ERR_INTERNAL",
        "The self-test failed: this build must not be trusted on this machine. Rebuild it, or report it with this output.",
      );
  },
};

/** One line: why the CPU is what "auto" means here. */
function describeGpus({ devices, reason, object, toolkit, driver }: NativeGpus): string {
  const version = (number: number) => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;
  const built =
    toolkit > 0 ? ` (${object}, CUDA ${version(toolkit)}, driver ${driver > 0 ? version(driver) : "none"})` : "";
  if (devices.length === 0) return `no GPU: ${reason}${built}`;
  const names = devices.map(({ index, name, freeGiB }) => `cuda:${index} ${name}, ${freeGiB.toFixed(1)} GiB free`);
  return `a GPU is used where it is asked for by name: ${names.join("; ")}${built}`;
}

async function selfTest(dtype: CpuDtype) {
  await using reranker = await Reranker.open(undefined, { dtype });
  const last = reranker.info.layers;
  const { logits } = await reranker.score(
    KNOWN.documents.map((document) => ({ query: KNOWN.query, document })),
    { layers: [last] },
  );
  const error = Math.max(...KNOWN.logits.map((known, i) => Math.abs(logits[last]![i]! - known)));
  const limit = TOLERANCE[dtype];
  return { dtype, backend: reranker.info.backend, error, limit, passed: error <= limit };
}
