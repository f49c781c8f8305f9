/**
 * `npm test`: every check of the project in order, from nothing. Stages print as they run; the last line counts them.
 */
import { bin, has, jobs, native, runStages, works } from "./stages.mjs";

// Compiling kernels takes far longer than running them here.
const LITTLE_OPTIMISED = ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"];

runStages([
  { name: "types", commands: [[bin("tsc"), "--noEmit", "-p", "test"], [bin("tsc"), "--noEmit", "-p", "bench"]] },
  { name: "lint and format", commands: [[bin("biome"), "check"]] },
  { name: "library and command line", commands: [[bin("vitest"), "run"]] },
  {
    name: "native, under AddressSanitizer and UBSan",
    commands: [
      ...native("sanitized", ...LITTLE_OPTIMISED, "-DMATRYOSHKA_SANITIZE=address,undefined", "-DMATRYOSHKA_FUZZ_SECONDS=30"),
      ["ctest", "--test-dir", "build/sanitized", "--output-on-failure", "-j", jobs],
    ],
  },
  {
    name: "CUDA kernels, emulated, in every shape",
    commands: [
      ...native("emulator", ...LITTLE_OPTIMISED, "-DMATRYOSHKA_TEST_FOLDERS=model;engine;cuda"),
      ["ctest", "--test-dir", "build/emulator", "-R", "^(simt|cuda)_", "--output-on-failure", "-j", jobs],
    ],
  },
  {
    name: "CUDA kernels, emulated, under ThreadSanitizer, and with bugs planted",
    skip: () => (works("setarch", "-R", "true") ? undefined : "needs `setarch -R` (Debian: util-linux; not in every container)"),
    commands: [[process.execPath, "test/native/cuda/mutants.mjs"]],
  },
  {
    name: "NEON kernels, cross-compiled and emulated",
    skip: () =>
      !has("aarch64-linux-gnu-g++") || !has("qemu-aarch64")
        ? "needs aarch64-linux-gnu-g++ and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user)"
        : undefined,
    commands: [
      ...native(
        "neon",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake",
        "-DMATRYOSHKA_TEST_FOLDERS=model;cpu;engine;train",
      ),
      // The oracle's own tests have nothing to do with the instruction set, nor have decisions or the emulator's GPU.
      [
        ...["ctest", "--test-dir", "build/neon", "--output-on-failure", "-j", jobs],
        ...["-E", "^(gradient|losses|trainer|cuda_train_backend|exit)_test$"],
      ],
    ],
  },
]);
