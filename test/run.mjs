/**
 * `npm test`: every check of the project in order, from nothing. Stages print as they run; the last line counts them.
 * A stage that needs what this machine lacks is skipped with the reason.
 */
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bootstrap } from "../bench/bootstrap.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bin = (name) => join(root, "node_modules", ".bin", name);
const has = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
const jobs = String(availableParallelism());
const native = (folder, ...options) => [
  ["cmake", "-S", "native", "-B", `build/${folder}`, "-DMATRYOSHKA_ADDON=OFF", "-DMATRYOSHKA_TESTS=ON", ...options],
  ["cmake", "--build", `build/${folder}`, "-j", jobs],
];

const stages = [
  { name: "types", commands: [[bin("tsc"), "--noEmit", "-p", "test"], [bin("tsc"), "--noEmit", "-p", "bench"]] },
  { name: "lint and format", commands: [[bin("biome"), "check"]] },
  { name: "library and command line", commands: [[bin("vitest"), "run"]] },
  {
    name: "native, under AddressSanitizer and UBSan",
    commands: [
      ...native("sanitized", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DMATRYOSHKA_SANITIZE=address,undefined", "-DMATRYOSHKA_FUZZ_SECONDS=60"),
      ["ctest", "--test-dir", "build/sanitized", "--output-on-failure", "-j", jobs],
    ],
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
      // The oracle's own tests have nothing to do with the instruction set.
      ["ctest", "--test-dir", "build/neon", "--output-on-failure", "-j", jobs, "-E", "^(gradient|losses|trainer)_test$"],
    ],
  },
];

bootstrap();
const counts = { passed: 0, failed: 0, skipped: 0 };
for (const { name, skip, commands } of stages) {
  const reason = skip?.();
  if (reason) {
    counts.skipped++;
    console.log(`\n== ${name}: skipped, ${reason}`);
    continue;
  }
  console.log(`\n== ${name}`);
  const start = performance.now();
  const failed = commands.find(
    ([command, ...args]) => spawnSync(command, args, { cwd: root, stdio: "inherit" }).status !== 0,
  );
  counts[failed ? "failed" : "passed"]++;
  const seconds = ((performance.now() - start) / 1e3).toFixed(0);
  console.log(`== ${name}: ${failed ? `FAILED at ${failed.join(" ")}` : "passed"} (${seconds} s)`);
}
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed > 0 ? 1 : 0;
