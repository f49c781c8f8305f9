/**
 * Keeps a file to one process at a time, without outliving a process that was killed.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { MatryoshkaError } from "../errors.js";

/**
 * Holds `path` + ".lock" until `release` is called. Throws `ERR_FILE` while a living process holds it; `option` is where
 * its message sends the user.
 */
export function lock(path: string, option = "--store"): { release(): void } {
  const file = `${path}.lock`;
  if (!take(file)) {
    const holder = read(file);
    if (holder === undefined || isAlive(holder, file)) throw inUse(path, holder, option);
    rmSync(file, { force: true });
    if (!take(file)) throw inUse(path, read(file), option);
  }
  held.add(file);
  const release = () => {
    held.delete(file);
    rmSync(file, { force: true });
  };
  return { release };
}

/** This process's own. In a container, whoever was killed may have had the number that this one has now. */
const held = new Set<string>();

function take(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw new MatryoshkaError("ERR_FILE", `Expected to be able to write ${file}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function read(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, "utf8"));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(pid: number, file: string): boolean {
  if (pid === process.pid) return held.has(file);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process cannot be signalled, but it is there.
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function inUse(path: string, pid: number | undefined, option: string): MatryoshkaError {
  return new MatryoshkaError(
    "ERR_FILE",
    `Expected ${path} for this run alone, but process ${pid ?? "?"} is writing to it. Wait for it, or choose another ` +
      `${option}. If no matryoshka is running, delete ${path}.lock.`,
  );
}
