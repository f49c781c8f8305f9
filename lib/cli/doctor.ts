/**
 * `matryoshka doctor`: what this machine has, what was chosen and why, and a self-test with a known answer.
 */
import { availableParallelism, cpus, totalmem } from "node:os";
import { MatryoshkaError } from "../errors.js";
import { addonFile, type NativeGpu, type NativeGpus } from "../native.js";
import { Reranker } from "../reranker.js";
import { chooseDtype, chooseHere, gpus, machine } from "../resolve.js";
import type { Device, Dtype } from "../types.js";
import type { Command } from "./command.js";
import { table } from "./output.js";

/** A question whose logits on the bundled model are known: from the reference device, in double precision. */
const KNOWN = {
  query: "what is a panda?",
  documents: [
    "The giant panda is a bear species endemic to China.",
    "Bread is a staple food prepared from a dough of flour and water.",
  ],
  logits: [1.465283, -4.6933355],
};

/** How far a dtype may be from the known logits, absolutely. */
const TOLERANCE = { f32: 2e-4, bf16: 0.15, f16: 0.02, int8: 0.3 } as const satisfies Record<
  Exclude<Dtype, "auto">,
  number
>;

export const doctor: Command = {
  summary: "what this machine has, what was chosen and why, and a self-test",
  help: `Usage: matryoshka doctor [--json]

Exits with 1 if the self-test of the bundled model fails.`,
  options: {},
  positionals: 0,

  async run({ output }) {
    const { isas, features } = machine();
    const found = gpus();
    const tests: SelfTest[] = [];
    for (const each of ["f32", "bf16", "int8"] as const) tests.push(await selfTest("cpu", each));
    for (const gpu of found.devices)
      for (const each of dtypesOf(gpu)) tests.push(await selfTest(`cuda:${gpu.index}`, each));
    const { device, dtype } = taken(tests);
    const report = {
      node: process.version,
      platform: `${process.platform}-${process.arch}`,
      cpu: cpus()[0]?.model ?? "unknown",
      threads: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      addon: addonFile(),
      instructionSets: isas,
      features,
      device: { chosen: device.device, reason: device.reason },
      gpus: found,
      dtype: { chosen: dtype.dtype, reason: dtype.reason },
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
          ["gpus", describeGpus(found)],
          ["device", `${device.device}: ${device.reason}`],
          ["dtype", `${dtype.dtype}: ${dtype.reason}`],
          ...tests.map((test) => [`self-test ${test.dtype}`, describeTest(test)]),
        ]),
      );
    if (tests.some(({ state }) => state === "failed"))
      throw new MatryoshkaError(
        "ERR_INTERNAL",
        "The self-test failed: this build must not be trusted on this machine. Rebuild it, or report it with this output.",
      );
  },
};

/** What "auto" comes to: a GPU that does not open the model leaves it to the CPU, as in `Reranker.open`. */
function taken(tests: readonly SelfTest[]): ReturnType<typeof chooseHere> {
  const chosen = chooseHere();
  const { device } = chosen.device;
  const test = tests.find((each) => each.device === device && each.dtype === chosen.dtype.dtype);
  return test?.state === "unopened"
    ? {
        device: { device: "cpu", reason: `${device} was chosen but does not open the bundled model: ${test.reason}` },
        dtype: chooseDtype(machine()),
      }
    : chosen;
}

/** Those that are here, and the versions that meet. */
function describeGpus({ devices, reason, object, toolkit, driver }: NativeGpus): string {
  const version = (number: number) => `${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;
  const built =
    toolkit > 0 ? ` (${object}, CUDA ${version(toolkit)}, driver ${driver > 0 ? version(driver) : "none"})` : "";
  const names = devices.map(({ index, name, totalGiB }) => `cuda:${index} ${name}, ${totalGiB.toFixed(1)} GiB`);
  return `${names.join("; ") || `none: ${reason}`}${built}`;
}

/** What the kernels compute in on it. */
function dtypesOf({ capability }: NativeGpu): readonly ("f32" | "bf16" | "f16")[] {
  if (capability < 75) return [];
  return capability < 80 ? ["f32", "f16"] : ["f32", "bf16", "f16"];
}

interface SelfTest {
  readonly device: Device;
  readonly dtype: Exclude<Dtype, "auto">;
  readonly passed: boolean;
  /** "unopened": the GPU did not take the model. */
  readonly state: "passed" | "failed" | "unopened";
  readonly backend?: string;
  readonly error?: number;
  readonly limit: number;
  /** Why there is no error. */
  readonly reason?: string;
}

function describeTest({ device, state, backend, error, limit, reason }: SelfTest): string {
  if (state === "unopened") return `not run, the model does not open on ${device}: ${reason}`;
  const off = error === undefined ? reason : `off by ${error.toExponential(1)} (limit ${limit})`;
  return `${state === "passed" ? "passed" : "FAILED"} on ${backend}, ${off}`;
}

/** On a GPU whatever goes wrong is told; on the CPU the bundled model must open. */
async function selfTest(device: "cpu" | `cuda:${number}`, dtype: SelfTest["dtype"]): Promise<SelfTest> {
  const limit = TOLERANCE[dtype];
  const asked = { device, dtype, limit };
  let reranker: Reranker;
  try {
    reranker = await Reranker.open(undefined, { device, dtype });
  } catch (error) {
    if (device === "cpu") throw error;
    return { ...asked, passed: false, state: "unopened", reason: (error as Error).message };
  }
  const { backend, layers: last } = reranker.info;
  try {
    const pairs = KNOWN.documents.map((document) => ({ query: KNOWN.query, document }));
    const { logits } = await reranker.score(pairs, { layers: [last] });
    const error = Math.max(...KNOWN.logits.map((known, i) => Math.abs(logits[last]![i]! - known)));
    const passed = error <= limit;
    return { ...asked, passed, state: passed ? "passed" : "failed", backend: backend!, error };
  } catch (error) {
    if (device === "cpu") throw error;
    return { ...asked, passed: false, state: "failed", backend: backend!, reason: (error as Error).message };
  } finally {
    await reranker.close();
  }
}
