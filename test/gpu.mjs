/**
 * `npm run test:gpu`: every check that needs a GPU, from nothing: builds the addon and the CUDA object for the GPUs that are
 * here, runs the tests of instructions and kernels that the emulator passes, holds whole passes to the goldens, to the CPU's
 * exits and to their own bits, and repeats that under compute-sanitizer where it is installed. Without a GPU it says so and
 * exits with 0.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bootstrap } from "../bench/bootstrap.mjs";
import { build, findNvcc } from "../native/cuda/build.mjs";
import { buildForGpu } from "./native/cuda/on-gpu.mjs";
import { works } from "./stages.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

const LIMIT_MINUTES = 8;
/** Milliseconds that this command and its like still have; they are one process each. */
export const timeLeft = () => Math.max(1, Math.floor(LIMIT_MINUTES * 60_000 - performance.now()));

/** Compute capabilities × 10 of the GPUs here, or why there are none. */
export function capabilities() {
  const { status, stdout, error } = spawnSync("nvidia-smi", ["--query-gpu=compute_cap", "--format=csv,noheader"], {
    encoding: "utf8",
  });
  if (error || status !== 0) return { reason: "no NVIDIA driver is installed (nvidia-smi does not run)" };
  const found = [...new Set(stdout.trim().split("\n").map((line) => Math.round(Number(line) * 10)))].filter((c) => c > 0);
  return found.length > 0 ? { found } : { reason: "the NVIDIA driver shows no GPU" };
}

/** Everything built for the GPUs here; returns why that cannot be, or undefined. */
export function prepare() {
  const { found, reason } = capabilities();
  if (!found) return reason;
  const object = join(root, "build", "Release", "matryoshka_cuda.so");
  if (!findNvcc() && !existsSync(object)) return "the CUDA object is not built and nvcc is not installed";
  bootstrap();
  if (findNvcc() && build(object, found) !== 0) process.exit(1);
  return undefined;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const reason = prepare();
  if (reason) console.log(`GPU tests skipped: ${reason}.`);
  else process.exitCode = test() ? 0 : 1;
}

/** Every check; whether all of them passed. */
function test() {
  const env = { ...process.env, MATRYOSHKA_TEST_GPU: "1" };
  const run = (command, ...args) => {
    console.log(`\n== ${[command, ...args].map((word) => word.replace(`${root}/`, "")).join(" ")}`);
    const { status, signal } = spawnSync(command, args, { cwd: root, stdio: "inherit", env, timeout: timeLeft() });
    if (signal) console.error(`Ended by ${signal}: ${LIMIT_MINUTES} minutes are over.`);
    return status === 0;
  };
  const api = [process.execPath, join(root, "node_modules/vitest/vitest.mjs"), "run", "test/70.gpu-kernels.test.ts", "test/74.gpu-training.test.ts", "-t", "cuda:"];
  const programs = findNvcc() ? buildForGpu(capabilities().found) : [];
  if (programs.length === 0) console.log("nvcc is not installed: the tests of single kernels are skipped.");
  const checks = [...programs.map((program) => [program]), api];
  if (works("compute-sanitizer", "--version"))
    for (const tool of ["memcheck", "racecheck"])
      for (const command of [...programs.map((program) => [program]), ...(tool === "memcheck" ? [api] : [])])
        checks.push(["compute-sanitizer", "--tool", tool, "--target-processes", "all", "--error-exitcode", "1", ...command]);
  else console.log("compute-sanitizer is not installed: memcheck and racecheck are skipped.");
  const failed = checks.filter((check) => !run(...check));
  console.log(`\n${checks.length - failed.length} passed, ${failed.length} failed`);
  return failed.length === 0;
}
