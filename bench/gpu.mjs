/**
 * `npm run bench:gpu`: builds for the GPUs that are here, then runs gpu.ts. Without a GPU it says so and exits with 0.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { prepare, timeLeft } from "../test/gpu.mjs";

const reason = prepare();
if (reason) console.log(`GPU benchmark skipped: ${reason}.`);
else {
  const file = fileURLToPath(new URL("gpu.ts", import.meta.url));
  const { status, signal } = spawnSync(process.execPath, ["--import", "tsx", file], {
    stdio: "inherit",
    timeout: timeLeft(),
  });
  if (signal) console.error(`Ended by ${signal}: its minutes are over.`);
  process.exitCode = status ?? 1;
}
