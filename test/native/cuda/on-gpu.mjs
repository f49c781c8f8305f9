/**
 * The tests of instructions and kernels, compiled by nvcc, so that the sentences that hold on the emulator are put to a GPU.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { findNvcc, OPTIONS } from "../../../native/cuda/build.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const folder = join(root, "build", "on-gpu");

export const TESTS = ["simt_test", "cuda_row_test", "cuda_rope_test", "cuda_exit_test", "cuda_gemm_test", "cuda_attention_test", "cuda_training_test"];
/** The engine's own decisions, which cuda_exit_test compares with. */
export const DECISIONS = ["exit_rule", "active_set", "rules/budget", "rules/confidence", "rules/standings", "rules/top_k"].map(
  (name) => `native/engine/${name}.cc`,
);
/** What they need besides themselves: the emulator, for its switches, and the engine, for its decisions. */
const SHARED = [
  "test/native/check.cc",
  ...["emulator", "fiber", "memory", "warp"].map((name) => `native/simt/${name}.cc`),
  ...DECISIONS,
];
const INCLUDES = ["native", "test/native", "test/native/cuda"].flatMap((path) => ["-I", join(root, path)]);

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error(`Expected ${command} to compile the kernels' tests but it failed${error ? `: ${error.message}` : ""}`);
}

/** Compiles them for GPUs of these capabilities (80 for 8.0); returns the programs. Needs nvcc, no GPU. */
export function buildForGpu(capabilities) {
  mkdirSync(folder, { recursive: true });
  const objects = SHARED.map((file) => {
    const object = join(folder, `${basename(file, ".cc")}.o`);
    run("g++", "-std=c++17", "-O2", "-ffp-contract=off", ...INCLUDES, "-c", file, "-o", object);
    return object;
  });
  const targets = capabilities.flatMap((capability) => ["-gencode", `arch=compute_${capability},code=sm_${capability}`]);
  return TESTS.map((test) => {
    const program = join(folder, test);
    const source = ["-x", "cu", `test/native/cuda/${test}.cc`, "-c", "-o", `${program}.o`];
    run(findNvcc(), ...OPTIONS, ...targets, ...INCLUDES, ...source);
    run(findNvcc(), ...targets, "-cudart", "static", "-o", program, `${program}.o`, ...objects);
    return program;
  });
}
