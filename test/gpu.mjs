/**
 * `npm run test:gpu`: every check that needs a GPU, from nothing: builds the addon and the CUDA object for the GPUs that are
 * here, holds the kernels to the goldens, to the CPU's exits and to their own bits on each, and repeats that under
 * compute-sanitizer where it is installed. Without a GPU it says so and exits with 0.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bootstrap } from "../bench/bootstrap.mjs";
import { build, findNvcc } from "../native/cuda/build.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

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
  if (reason) {
    console.log(`GPU tests skipped: ${reason}.`);
  } else {
    const tests = [join(root, "node_modules/vitest/vitest.mjs"), "run", "test/70.gpu-kernels.test.ts"];
    const env = { ...process.env, MATRYOSHKA_TEST_GPU: "1" };
    const run = (command, args) => spawnSync(command, args, { cwd: root, stdio: "inherit", env }).status ?? 1;
    let failed = run(process.execPath, tests);
    if (spawnSync("compute-sanitizer", ["--version"]).status === 0)
      for (const tool of ["memcheck", "racecheck"])
        failed ||= run("compute-sanitizer", ["--tool", tool, "--target-processes", "all", "--error-exitcode", "1", process.execPath, ...tests]);
    else console.log("compute-sanitizer is not installed: memcheck and racecheck skipped.");
    process.exitCode = failed ? 1 : 0;
  }
}
