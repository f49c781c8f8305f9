/**
 * From a fresh clone to something that runs: installs what is missing, builds what is missing or older than its sources.
 * Plain JavaScript and Node alone, because it runs before anything is installed.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** The latest change among the files under `paths`, in milliseconds; 0 if there are none. */
function newest(...paths) {
  const times = paths.map((path) => {
    if (!existsSync(path)) return 0;
    if (!statSync(path).isDirectory()) return statSync(path).mtimeMs;
    return newest(...readdirSync(path).map((name) => join(path, name)));
  });
  return Math.max(0, ...times);
}

function run(title, command, args) {
  console.error(`${title} …`);
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (status === 0) return;
  console.error(
    `${title} failed${error ? `: ${error.message}` : ""}. It needs Node 20, CMake 3.22 and a C++17 compiler.`,
  );
  process.exit(1);
}

export function bootstrap() {
  const at = (...parts) => join(root, ...parts);
  if (newest(at("package-lock.json")) > newest(at("node_modules", ".package-lock.json")))
    run("Installing dependencies", "npm", ["ci", "--no-audit", "--no-fund"]);
  if (newest(at("native"), at("package-lock.json")) > newest(at("build", "Release", "matryoshka.node")))
    run("Building the native addon", "npm", ["run", "--silent", "build:native"]);
  if (newest(at("lib"), at("tsconfig.json")) > newest(at("dist", "index.js")))
    run("Compiling TypeScript", "npm", ["run", "--silent", "build:ts"]);
}
