/**
 * What bench:depth runs on: a BEIR directory with a run, or the passages of the demo.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { beirLists, type List } from "../../dist/cli/lists.js";
import { readSplit } from "../../dist/eval/beir.js";
import type { Qrels } from "../../dist/eval/qrels.js";
import { readRun } from "../../dist/eval/trec-run.js";

export interface Data {
  readonly name: string;
  readonly lists: readonly List[];
  readonly qrels: Qrels;
}

export async function beir(directory: string, split: string, file: string): Promise<Data> {
  const qrels = await readSplit(directory, split);
  const run = new Map([...(await readRun(file))].filter(([query]) => qrels.has(query)));
  return {
    name: `${basename(directory)}, ${basename(file)}`,
    lists: await beirLists(directory, run, { depth: 100 }),
    qrels,
  };
}

interface Demo {
  readonly queries: readonly { id: string; text: string; candidates: string[]; relevant: string[] }[];
  readonly passages: readonly { id: string; title: string; text: string }[];
}

export function demo(): Data {
  const { queries, passages } = JSON.parse(readFileSync(new URL("../data/demo.json", import.meta.url), "utf8")) as Demo;
  const texts = new Map(passages.map(({ id, title, text }) => [id, `${title} ${text}`]));
  return {
    name: "the demo's passages",
    lists: queries.map(({ id, text, candidates }) => ({
      ...{ query: id, text },
      documents: candidates.map((each) => ({ id: each, text: texts.get(each)! })),
      firstStage: candidates.map((_, rank) => -rank),
    })),
    qrels: new Map(queries.map(({ id, relevant }) => [id, new Map(relevant.map((each) => [each, 1]))])),
  };
}
