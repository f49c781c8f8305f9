/**
 * `npm run build:cuda`: compiles the CUDA object, build/Release/matryoshka_cuda.so, which the addon loads at run time.
 * It needs nvcc and no GPU. `--archs 80,90` builds for those only (default: every supported one); the last one is also
 * kept as PTX, which the driver compiles for newer chips.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const native = join(dirname(fileURLToPath(import.meta.url)), "..");

/** T4, A100, A10 and RTX 30, L4 and RTX 40, H100 and H200, RTX 50. */
const ARCHS = [75, 80, 86, 89, 90, 120];

/** The path of nvcc, or undefined. */
export function findNvcc() {
  for (const nvcc of [process.env.NVCC, "nvcc", "/usr/local/cuda/bin/nvcc"])
    if (nvcc && spawnSync(nvcc, ["--version"]).status === 0) return nvcc;
  return undefined;
}

/** Compiler options that are the same for the object and for measuring it. */
export const OPTIONS = ["-std=c++17", "-O3", "-I", native];

/** Returns the exit status. */
export function build(output, archs = ARCHS) {
  const nvcc = findNvcc();
  if (!nvcc) {
    console.error("Expected nvcc (the CUDA toolkit, 12.8 or later) on the PATH or in $NVCC. Without it the CPU is used.");
    return 1;
  }
  mkdirSync(dirname(output), { recursive: true });
  const targets = archs.flatMap((arch) => ["-gencode", `arch=compute_${arch},code=sm_${arch}`]);
  // PTX of a chip before the newest, so that everything after it can run it.
  const ptx = archs.includes(90) ? 90 : archs.at(-1);
  const { status } = spawnSync(
    nvcc,
    [
      ...OPTIONS,
      ...targets,
      ...["-gencode", `arch=compute_${ptx},code=compute_${ptx}`],
      ...["-shared", "-cudart", "static", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-Xlinker", "--exclude-libs,ALL"],
      ...["--threads", "0", "-o", output, join(native, "cuda", "plugin.cu")],
    ],
    { stdio: "inherit" },
  );
  return status ?? 1;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const at = process.argv.indexOf("--archs");
  const archs = at > 0 ? process.argv[at + 1].split(",").map(Number) : ARCHS;
  process.exitCode = build(join(native, "..", "build", "Release", "matryoshka_cuda.so"), archs);
}
