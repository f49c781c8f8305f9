/**
 * Files and directories appear whole or not at all.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { writeDirectory, writeInTurn, writeSynced, writeWhole } from "../lib/write-whole.js";

const scratch = mkdtempSync(join(tmpdir(), "matryoshka-whole-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

it("writes a file in the place of another", async () => {
  const file = join(scratch, "file");
  await writeWhole(file, "one");
  await writeWhole(file, "two");
  expect(readFileSync(file, "utf8")).toBe("two");
  await expect(writeWhole(join(scratch, "nowhere", "file"), "three")).rejects.toMatchObject({ code: "ERR_FILE" });
});

it("changes no file where one of several cannot be written", async () => {
  const file = join(scratch, "first");
  writeFileSync(file, "old");
  const files = [
    [file, "new"],
    [join(scratch, "nowhere", "second"), "new"],
  ] as const;
  await expect(writeInTurn(files)).rejects.toMatchObject({ code: "ERR_FILE" });
  expect(readFileSync(file, "utf8")).toBe("old");
  expect(readdirSync(scratch).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

it("keeps the earlier directory where a new one is not finished", async () => {
  const directory = join(scratch, "model");
  const fill = (text: string) => (to: string) => writeSynced(join(to, "weights"), text);
  await writeDirectory(directory, fill("one"));
  const failed = writeDirectory(directory, async (to) => {
    await fill("two")(to);
    throw new Error("no space left");
  });
  await expect(failed).rejects.toMatchObject({ code: "ERR_FILE", message: expect.stringContaining("no space left") });
  expect(readFileSync(join(directory, "weights"), "utf8")).toBe("one");
  await writeDirectory(directory, fill("three"));
  expect(readFileSync(join(directory, "weights"), "utf8")).toBe("three");
  for (const left of [".tmp", ".old"]) expect(existsSync(`${directory}${left}`)).toBe(false);
});
