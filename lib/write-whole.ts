/**
 * Writes a small file whole or not at all.
 */
import { open, rename, rm } from "node:fs/promises";
import { MatryoshkaError } from "./errors.js";

/** Readers see the old file or the new one, also if this process is killed or the disk is full. Throws `ERR_FILE`. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeSynced(temporary, text);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw cannotWrite(path, cause);
  }
}

/** Writes and flushes to the disk. */
export async function writeSynced(path: string, text: string | Uint8Array): Promise<void> {
  await using file = await open(path, "w");
  await file.writeFile(text);
  await file.sync();
}

export function cannotWrite(path: string, cause: unknown): MatryoshkaError {
  return new MatryoshkaError("ERR_FILE", `Expected to be able to write ${path}: ${(cause as Error).message}`, {
    cause,
  });
}
