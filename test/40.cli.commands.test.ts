/**
 * The command line as scripts and people meet it: pipes, JSON, exit codes, messages.
 */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { finished, matryoshka, start } from "./fixtures/cli.js";
import { makeModel } from "./fixtures/make-model.js";

const model = makeModel();
const folder = mkdtempSync(join(tmpdir(), "matryoshka-cli-"));
afterAll(() => {
  model.remove();
  rmSync(folder, { recursive: true, force: true });
});

const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const here = ["--model", model.directory, "--dtype", "f32", "--threads", "1"];
const pairs = (n: number) =>
  Array.from({ length: n }, (_, i) => `${JSON.stringify({ query: "what is", document: `panda ${i}` })}\n`).join("");

describe.concurrent("rerank", { timeout: 180_000 }, () => {
  it("reads documents from a pipe, text or JSON, and prints them best first", async () => {
    const input = 'the giant panda\n\n{"id": "b", "text": "bear of china", "kept": 1}\nword\n';
    const { code, stdout, stderr } = await matryoshka(["rerank", ...here, "--query", "panda", "--json"], input);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { query, results, stats } = JSON.parse(stdout);
    expect(query).toBe("panda");
    expect(results.map((r: { index: number }) => r.index).sort()).toEqual([0, 1, 2]);
    const scores = results.map((r: { score: number }) => r.score);
    expect(scores).toEqual(scores.toSorted((a: number, b: number) => b - a));
    expect(results.find((r: { index: number }) => r.index === 1)).toMatchObject({
      ...{ exitLayer: 4, exact: true, document: { id: "b", text: "bear of china", kept: 1 } },
    });
    expect(stats).toMatchObject({ sequences: 3, computeFraction: 1, exitHistogram: { 4: 3 }, partial: false });
  });

  it("prints a table for people, cut to --top-n, with the layers asked for", async () => {
    const docs = file("docs.txt", "the giant panda\nbear of china\nword\n");
    const { code, stdout } = await matryoshka([
      ...[
        "rerank",
        ...here,
        "--query",
        "panda",
        "--docs",
        docs,
        "--top-n",
        "2",
        "--layers",
        "2,3",
        "--exit",
        "layer:3",
      ],
    ]);
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^rank +score +layer +@2 +@3 +document$/);
  });

  it("says on stderr why no certificate holds, and runs full depth", async () => {
    const args = ["rerank", ...here, "--query", "panda", "--exit", "top-k:1"];
    const { code, stdout, stderr } = await matryoshka(args, "a\nb\n");
    expect(code).toBe(0);
    expect(stdout.split("\n")).toHaveLength(4);
    expect(stderr).toMatch(/No certificate holds\. The model has no certificate/);
  });

  it("stops whom the first stage had settled, by the scores of JSON lines", async () => {
    const input = [10, 9, 0].map((score) => `${JSON.stringify({ text: `panda ${score}`, score })}\n`).join("");
    const args = ["rerank", ...here, "--query", "panda", "--exit", "confidence:2=1:0.5:1", "--json"];
    const { stdout } = await matryoshka(args, input);
    const { results, stats } = JSON.parse(stdout);
    expect(stats.exitHistogram).toEqual({ 2: 1, 4: 2 });
    expect(results.find((r: { exitLayer: number }) => r.exitLayer === 2).document.score).toBe(0);
  });

  it("names file and line of a bad document", async () => {
    const docs = file("bad.jsonl", '{"text": "a"}\n\n{"text": 3}\n');
    const { code, stderr } = await matryoshka(["rerank", ...here, "--query", "q", "--docs", docs]);
    expect(code).toBe(1);
    expect(stderr).toContain(`ERR_INVALID_ARGUMENT: ${docs}:3: expected a string under "text" but received number`);
  });

  it("reads files with a byte-order mark and Windows line ends", async () => {
    const docs = file("windows.jsonl", '\ufeff{"text": "panda"}\r\n{"text": "bear"}\r\n');
    const { code, stdout } = await matryoshka(["rerank", ...here, "--query", "q", "--docs", docs, "--json"]);
    expect(code).toBe(0);
    const texts = JSON.parse(stdout).results.map((r: { document: { text: string } }) => r.document.text);
    expect(texts.sort()).toEqual(["bear", "panda"]);
  });

  it.each(["missing.txt", "."])("says in one line that %s cannot be read", async (name) => {
    const { code, stderr } = await matryoshka(["rerank", ...here, "--query", "q", "--docs", join(folder, name)]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^matryoshka: ERR_FILE: Expected a readable file at .*: E(NOENT|ISDIR).*\n$/);
  });

  it("has nothing to print for no documents", async () => {
    const { code, stdout } = await matryoshka(["rerank", ...here, "--query", "q", "--json"]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).results).toEqual([]);
  });
});

describe.concurrent("score", { timeout: 180_000 }, () => {
  it("writes raw logits of every layer in the order of the pairs, in full precision", async () => {
    const { code, stdout } = await matryoshka(["score", ...here, "--pairs", "-"], pairs(3));
    expect(code).toBe(0);
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map(({ index }) => index)).toEqual([0, 1, 2]);
    for (const { scores } of lines) {
      expect(Object.keys(scores)).toEqual(["1", "2", "3", "4"]);
      for (const score of Object.values(scores) as number[]) expect(Math.fround(score)).toBe(score);
    }
  });

  it("says how many documents were cut to fit", async () => {
    const long = JSON.stringify({ query: "panda", document: "bear ".repeat(40) });
    const { code, stderr } = await matryoshka(
      ["score", ...here, "--max-length", "16", "--pairs", "-"],
      `${pairs(1)}${long}\n${long}\n`,
    );
    expect(code).toBe(0);
    expect(stderr).toContain("2 documents were cut to fit; see --max-length");
  });

  it("has scored and written what came before a bad line", async () => {
    const { code, stdout, stderr } = await matryoshka(["score", ...here, "--pairs", "-"], `${pairs(2)}nonsense\n`);
    expect(code).toBe(1);
    expect(stdout.trimEnd().split("\n")).toHaveLength(2);
    expect(stderr).toContain("stdin:3: expected a JSON object but the line does not parse");
  });

  it.each([
    ["an empty query", "", [], "ERR_EMPTY_QUERY"],
    ["a query that leaves no room", "panda ".repeat(20), ["--max-length", "16"], "ERR_INPUT_TOO_LONG"],
  ])("names the line of %s, and what comes before it has been written", async (_, query, options, error) => {
    const bad = JSON.stringify({ query, document: "panda" });
    const args = ["score", ...here, "--layers", "4", ...options, "--pairs", "-", "--json"];
    const { code, stdout, stderr } = await matryoshka(args, `${pairs(2)}\n${bad}\n${pairs(2)}`);
    expect(code).toBe(1);
    const indices = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).index);
    expect(indices).toEqual([0, 1]);
    expect(JSON.parse(stderr).error).toMatchObject({ code: error, message: expect.stringMatching(/^stdin:4: /) });
  });

  it.skipIf(!existsSync("/dev/full"))("says that its output cannot be written", () => {
    const args = ["--import", "tsx", "lib/cli/main.ts", "score", ...here, "--pairs", file("few.jsonl", pairs(3))];
    const full = openSync("/dev/full", "w");
    const { status, stderr } = spawnSync(process.execPath, args, { stdio: ["ignore", full, "pipe"], encoding: "utf8" });
    closeSync(full);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^matryoshka: ERR_FILE: Expected to be able to write to stdout: ENOSPC/);
  });

  it("exits with 130 on Ctrl-C, also while a pipe makes it wait, and what was done is written", async () => {
    const child = start("score", ...here, "--layers", "4", "--pairs", "-");
    const end = finished(child);
    child.stdin.write(pairs(600));
    await once(child.stdout, "data");
    child.kill("SIGINT");
    const { code, stdout } = await end;
    expect(code).toBe(130);
    expect(stdout.endsWith("\n")).toBe(true);
    const indices = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line).index);
    expect(indices).toEqual(Array.from({ length: 512 }, (_, i) => i));
  });

  it("ends quietly when its reader has gone", async () => {
    const child = start("score", ...here, "--pairs", file("many.jsonl", pairs(4000)));
    const closed = once(child, "close");
    let stderr = "";
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    await once(child.stdout, "data");
    child.stdout.destroy();
    expect(await closed).toEqual([0, null]);
    expect(stderr).toBe("");
  });
});

describe.concurrent("inspect and doctor", { timeout: 180_000 }, () => {
  it("inspect describes a checkpoint, as a table or as JSON", async () => {
    const [words, json] = await Promise.all([
      matryoshka(["inspect", model.directory]),
      matryoshka(["inspect", model.directory, "--json"]),
    ]);
    expect(words.stdout).toMatch(/family +bert\n/);
    expect(JSON.parse(json.stdout)).toMatchObject({
      ...{ layers: 4, hidden: 32, exitLayers: [1, 2, 3, 4], provenance: { base: "random" } },
    });
  });

  it("inspect says what is wrong with a directory that is not a model", async () => {
    const { code, stderr } = await matryoshka(["inspect", join(folder, "nothing"), "--json"]);
    expect(code).toBe(1);
    expect(JSON.parse(stderr).error).toMatchObject({ code: "ERR_MODEL_NOT_FOUND" });
  });

  it("doctor passes on the bundled model in every arithmetic", async () => {
    const { code, stdout } = await matryoshka(["doctor", "--json"]);
    expect(code).toBe(0);
    const { selfTest, dtype, addon } = JSON.parse(stdout);
    expect(addon).toMatch(/matryoshka\.node$/);
    expect(dtype).toMatchObject({ chosen: expect.any(String), reason: expect.any(String) });
    expect(selfTest.map((test: { dtype: string; passed: boolean }) => [test.dtype, test.passed])).toEqual([
      ...[
        ["f32", true],
        ["bf16", true],
        ["int8", true],
      ],
    ]);
  });
});

describe.concurrent("wrong use", { timeout: 180_000 }, () => {
  it.each<[string, string[], RegExp]>([
    ["no command", [], /^$/],
    ["a misspelt command", ["rernk"], /unknown command "rernk"; did you mean rerank\?/],
    ["a misspelt option", ["rerank", "--querry", "x"], /unknown option --querry; did you mean --query\?/],
    ["an option without its value", ["score", "--pairs"], /--pairs needs a value/],
    ["an option in place of a value", ["rerank", "--query", "--json"], /--query=VALUE for one that begins with a dash/],
    ["a number below its least", ["rerank", "--query", "x", "--top-n=-1"], /--top-n needs a whole number from 1/],
    ["a word that is none", ["rerank", "--query", "x", "--dtype", "bf61"], /got "bf61"; did you mean bf16\?/],
    ["a missing option", ["rerank"], /--query is needed/],
    ["a flag with a value", ["doctor", "--json=1"], /--json takes no value/],
    ["a surplus argument", ["inspect", "a", "b"], /unexpected argument "b"/],
    ["a rule that is none", ["rerank", "--query", "x", "--exit", "topk"], /--exit needs one of full; layer:8/],
    ["eval without a run", ["eval", "--data", "x"], /--run is needed/],
    ["eval with a format that is none", ["eval", "--data", "x", "--run", "y", "--format", "cvs"], /did you mean csv\?/],
    ["calibrate without lists", ["calibrate"], /either --data or --pairs is needed/],
    ["calibrate with letters for k", ["calibrate", "--pairs", "x", "--k", "ten"], /--k needs numbers .* got "ten"/],
  ])("%s exits with 2 and says what to do", async (_, args, message) => {
    const { code, stderr } = await matryoshka(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it("is help that was asked for that exits with 0", async () => {
    const all = await Promise.all([
      ...[["--help"], ["--version"], ["eval", "--help"], ["calibrate", "-h"]].map((args) => matryoshka(args)),
    ]);
    expect(all.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
    expect(all[0]!.stdout).toMatch(/rerank.*score.*eval.*calibrate.*inspect.*doctor/s);
    expect(all[1]!.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(all[3]!.stdout).toMatch(/Usage: matryoshka calibrate/);
  });

  it("a value the model cannot do exits with 1 and a code", async () => {
    const { code, stderr } = await matryoshka(["score", ...here, "--layers", "9", "--pairs", "-"], pairs(1));
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^matryoshka: ERR_INVALID_ARGUMENT: Expected 1, 2, 3, 4 for options.layers\[0\] but received 9/,
    );
  });
});
