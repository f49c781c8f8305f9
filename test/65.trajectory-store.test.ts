/**
 * Trajectories on disk: a finished query is never lost, and scores made under other conditions are never mixed in.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { Trajectory } from "../lib/exit/trajectory.js";
import { TrajectoryStore } from "../lib/exit/trajectory-store.js";
import { synthetic } from "./synthetic.js";

const directory = mkdtempSync(join(tmpdir(), "matryoshka-store-"));
afterAll(() => rmSync(directory, { recursive: true }));
let files = 0;
const fresh = (): string => join(directory, `store-${files++}.jsonl`);
const conditions = { model: "m1", dtype: "f32", tokenizer: "t1", maxLength: 256, candidates: 100 };
const { lists, layers } = synthetic({ lists: 8, m: 6 });
const open = (path: string): TrajectoryStore => TrajectoryStore.open(path, layers, conditions);
function filled(count = lists.length): string {
  const path = fresh();
  const store = open(path);
  for (const list of lists.slice(0, count)) store.add(list);
  store.close();
  return path;
}

describe("a trajectory store", () => {
  it("gives back what it was given, to the last bit, NaN and infinities included", () => {
    const path = fresh();
    const store = open(path);
    const odd: Trajectory = {
      ...lists[0]!,
      query: 'odd ü\n"',
      text: "what?",
      scores: Float32Array.from(lists[0]!.scores, (s, i) => [Number.NaN, Infinity, -Infinity, -0, s][i % 5]!),
    };
    store.add(odd);
    store.add(lists[1]!);
    store.close();
    const again = open(path);
    expect(again.size).toBe(2);
    expect(again.has(odd.query)).toBe(true);
    expect(again.get(odd.query)).toEqual(odd);
    expect(again.set().lists.map(({ query }) => query)).toEqual([odd.query, lists[1]!.query]);
    expect(again.set([lists[1]!.query, "absent"]).lists).toEqual([{ ...lists[1]!, text: undefined }]);
    again.close();
  });

  it("loses nothing that was finished, wherever a run was killed", () => {
    const path = filled(4);
    const bytes = readFileSync(path);
    const ends = [...bytes.keys()].filter((i) => bytes[i] === 10).map((i) => i + 1);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: bytes.length }), (size) => {
        const cut = fresh();
        writeFileSync(cut, bytes.subarray(0, size));
        const store = open(cut);
        expect(store.size).toBe(Math.max(0, ends.filter((end) => end <= size).length - 1));
        for (const list of lists.slice(store.size, 4)) store.add(list);
        store.close();
        expect(readFileSync(cut).equals(bytes)).toBe(true);
        rmSync(cut);
      }),
      { numRuns: 200 },
    );
  });

  it("goes on after a process that was killed while writing", async () => {
    const path = fresh();
    const root = join(import.meta.dirname, "..");
    const code = `
      import { TrajectoryStore } from ${JSON.stringify(join(root, "lib/exit/trajectory-store.ts"))};
      const store = TrajectoryStore.open(${JSON.stringify(path)}, [1, 2], { model: "m" });
      for (let i = 0; ; i++) {
        store.add({ query: "q" + i, documents: ["d"], tokens: Int32Array.of(9), scores: Float32Array.of(i, -i) });
        if (i === 200) process.stdout.write("ready");
      }`;
    const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", code], { cwd: root });
    const closed = new Promise((resolve) => child.once("close", resolve));
    await new Promise((resolve) => child.stdout.once("data", resolve));
    child.kill("SIGKILL");
    await closed;
    const store = TrajectoryStore.open(path, [1, 2], { model: "m" });
    expect(store.size).toBeGreaterThan(200);
    for (let i = 0; i < store.size; i++) expect(store.get(`q${i}`)!.scores).toEqual(Float32Array.of(i, -i));
    store.close();
  });

  it("refuses scores made under other conditions, naming the first that differs", () => {
    const path = filled(1);
    const changed =
      (change: object): (() => unknown) =>
      () =>
        TrajectoryStore.open(path, layers, { ...conditions, ...change });
    expect(changed({ dtype: "bf16" })).toThrow(
      /expected trajectories made with dtype = bf16, got f32\. .*delete this one/,
    );
    expect(changed({ maxLength: 512 })).toThrow(/maxLength = 512, got 256/);
    expect(changed({ extra: "x" })).toThrow(/extra = x, got undefined/);
    expect(() => TrajectoryStore.open(path, [1, 2], conditions)).toThrow(/layers = 1,2, got 2,4,6,8,10,12/);
    open(path).close();
  });

  it("never touches a file that is not its own", () => {
    for (const content of [
      "notes without a last newline",
      "{}\nmore",
      '{"format":"matryoshka-trajectories","version":99}\nrest',
    ]) {
      const path = fresh();
      writeFileSync(path, content);
      expect(() => open(path)).toThrow(
        /store-\d+\.jsonl:1: expected the header of a matryoshka-trajectories file, version 1/,
      );
      expect(readFileSync(path, "utf8")).toBe(content);
    }
    expect(() => open(join(directory, "absent", "store"))).toThrow(expect.objectContaining({ code: "ERR_FILE" }));
  });

  it("names the line of a damaged query", () => {
    const path = filled(2);
    const lines = readFileSync(path, "utf8").split("\n");
    writeFileSync(path, [lines[0], lines[1], "{broken", lines[2], ""].join("\n"));
    expect(() => open(path)).toThrow(/:3: expected one query's trajectory as a JSON object, got "\{broken"/);
    writeFileSync(path, [lines[0], JSON.stringify({ ...JSON.parse(lines[1]!), tokens: [1] }), ""].join("\n"));
    expect(() => open(path)).toThrow(/expected 6 token counts/);
  });

  it("refuses lists whose shapes disagree, and stays as it was", () => {
    const path = filled(1);
    const before = statSync(path).size;
    const store = open(path);
    expect(() => store.add({ ...lists[1]!, scores: new Float32Array(3) })).toThrow(/expected 36 scores/);
    store.close();
    expect(statSync(path).size).toBe(before);
  });
});
