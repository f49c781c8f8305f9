/**
 * Keeps a file to one process at a time, without outliving a process that was killed.
 */
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { MatryoshkaError } from "../errors.js";

/**
 * Holds `path` + ".lock" until `release` is called, in a directory that it makes where there is none. Throws `ERR_FILE`
 * while a living process holds it; `option` is where its message sends the user.
 */
export function lock(path: string, option = "--store"): { release(): void } {
  const file = `${path}.lock`;
  makeDirectory(dirname(path), option);
  if (!take(file)) {
    const holder = read(file);
    if (holder === undefined || isAlive(holder, file)) throw inUse(path, holder, option);
    clear(file, holder);
    if (!take(file)) throw inUse(path, read(file), option);
  }
  held.add(file);
  const release = () => {
    held.delete(file);
    rmSync(file, { force: true });
  };
  return { release };
}

/** Removes what `holder` left. Of several that try at once one moves the file away, and no other's new one is lost. */
function clear(file: string, holder: number): void {
  const moved = `${file}.${process.pid}`;
  try {
    renameSync(file, moved);
    if (read(moved) !== holder) linkSync(moved, file);
  } catch {
    // Somebody was faster: whoever has the file now holds it.
  }
  rmSync(moved, { force: true });
}

function makeDirectory(directory: string, option: string): void {
  try {
    mkdirSync(directory, { recursive: true });
  } catch (cause) {
    throw new MatryoshkaError(
      "ERR_FILE",
      `Expected to be able to write to ${directory}: ${(cause as Error).message}. Choose another with ${option}.`,
      { cause },
    );
  }
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
