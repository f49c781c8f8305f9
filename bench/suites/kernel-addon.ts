/**
 * The addon of bench/native: single kernels of the engine, built when its sources are newer.
 */
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Dtype } from "../../dist/index.js";
import type { NativeBatch } from "../../dist/native-engine.js";

type Call = () => void;

/** Every function runs on the calling thread, on the best instruction set. See bench/native/kernels.cc. */
export interface Kernels {
  /** "avx512_bf16". */
  readonly variant: string;
  /** Operations done on registers alone, or 0 where there is no instruction for this dtype. */
  peak(dtype: Dtype, rounds: number): number;
  gemm(dtype: Dtype, rows: number, n: number, k: number, activated: boolean): Call;
  attention(dtype: Dtype, length: number, heads: number, headDim: number): Call;
  /** A model and a batch, to be passed over at full depth. */
  pass(directory: string, dtype: Dtype, batch: NativeBatch): Pass;
}

export interface Pass {
  readonly run: Call;
  /** Seconds of all runs so far, by part of the pass (timed_backend.h) and in `whole`. */
  seconds(): Readonly<Record<string, number>>;
}

const root = fileURLToPath(new URL("../..", import.meta.url));

export function loadKernels(): Kernels {
  const cmake = (...args: string[]) =>
    execFileSync("cmake", args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
  cmake(
    "-S",
    "native",
    "-B",
    "build/cmake-bench",
    "-DCMAKE_BUILD_TYPE=Release",
    "-DMATRYOSHKA_ADDON=OFF",
    "-DMATRYOSHKA_BENCH=ON",
  );
  cmake("--build", "build/cmake-bench", "--target", "matryoshka_bench", "-j", "2");
  return createRequire(import.meta.url)("../../build/bench/matryoshka_bench.node") as Kernels;
}

/** Operations a second of one thread, at most; null where it has no such instruction. The best of a few rounds. */
export function peakRate(kernels: Kernels, dtype: Dtype): number | null {
  const rounds = 5_000_000;
  let best = 0;
  for (let i = 0; i < 5; i++) {
    const start = performance.now();
    const operations = kernels.peak(dtype, rounds);
    if (operations === 0) return null;
    best = Math.max(best, operations / ((performance.now() - start) / 1e3));
  }
  return best;
}
