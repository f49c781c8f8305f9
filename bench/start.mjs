/**
 * `node bench/start.mjs FILE.ts`: installs and builds what is missing, then runs a TypeScript file of this folder.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { bootstrap } from "./bootstrap.mjs";

bootstrap();
const [file, ...args] = process.argv.slice(2);
const path = fileURLToPath(new URL(file, import.meta.url));
const { status, signal } = spawnSync(process.execPath, ["--import", "tsx", path, ...args], { stdio: "inherit" });
if (signal) console.error(`${file} was ended by ${signal}`);
process.exitCode = status ?? 1;
