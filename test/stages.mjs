/**
 * Runs stages of commands in order, from nothing, and counts them. A stage that needs what this machine lacks is skipped
 * with the reason.
 */
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { bootstrap } from "../bench/bootstrap.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
export const jobs = String(availableParallelism());
export const bin = (name) => join(root, "node_modules", ".bin", name);
export const has = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;
export const works = (command, ...args) => spawnSync(command, args).status === 0;

/** Configures and builds the native tests in build/FOLDER. */
export const native = (folder, ...options) => [
  ["cmake", "-S", "native", "-B", `build/${folder}`, "-DMATRYOSHKA_ADDON=OFF", "-DMATRYOSHKA_TESTS=ON", ...options],
  ["cmake", "--build", `build/${folder}`, "-j", jobs],
];

/** Each is `{ name, commands, skip? }`; `skip` says why, or nothing. Sets the exit code. */
export function runStages(stages) {
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
}
