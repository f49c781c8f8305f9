/**
 * Files and directories that appear whole or not at all: readers see the old one or the new one, also if this process is
 * killed or the disk is full.
 */
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { cannotWrite, MatryoshkaError } from "./errors.js";
import { fromNative } from "./native.js";

/** Throws `ERR_FILE`, with the old file as it was. */
export async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  await writeInTurn([[path, content]]);
}

/**
 * Files that take their places one after the other, a path perhaps twice. All of them are on the disk before the first
 * does, so a full disk changes nothing. Throws `ERR_FILE`.
 */
export async function writeInTurn(
  files: readonly (readonly [path: string, content: string | Uint8Array])[],
): Promise<void> {
  const staged: string[] = [];
  try {
    for (const [path, content] of files) {
      const temporary = `${path}.${process.pid}.${staged.length}.tmp`;
      staged.push(temporary);
      await writeSynced(temporary, content);
    }
    for (const [i, [path]] of files.entries()) await rename(staged[i]!, path);
  } catch (cause) {
    for (const temporary of staged) await rm(temporary, { recursive: true, force: true });
    throw cannotWrite(files.map(([path]) => path).join(", "), cause);
  }
}

/**
 * `fill` writes a new directory's files, flushed; it takes the place of an earlier one, which is there until then. Throws
 * `ERR_FILE`, or what `fill` throws of ours, with the earlier one as it was.
 */
export async function writeDirectory(path: string, fill: (directory: string) => Promise<void>): Promise<void> {
  const [temporary, old] = [`${path}.tmp`, `${path}.old`];
  try {
    await rm(temporary, { recursive: true, force: true });
    await mkdir(temporary, { recursive: true });
    await fill(temporary);
    await syncDirectory(temporary);
    await rm(old, { recursive: true, force: true });
    await renameIfThere(path, old);
    await rename(temporary, path).catch(async (cause) => {
      await renameIfThere(old, path);
      throw cause;
    });
    await syncDirectory(dirname(path));
    await rm(old, { recursive: true, force: true });
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    const error = fromNative(cause);
    throw error instanceof MatryoshkaError ? error : cannotWrite(path, cause);
  }
}

/** Writes and flushes to the disk. */
export async function writeSynced(path: string, content: string | Uint8Array): Promise<void> {
  await using file = await open(path, "w");
  await file.writeFile(content);
  await file.sync();
}

async function renameIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
  }
}

/** The names in it reach the disk too. */
async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}
