/**
 * Where a suite's figures and pictures go: bench/results, the machine named in each.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { machine } from "../machine.js";

const folder = new URL("../results/", import.meta.url);

export function writeResult(name: string, text: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(new URL(name, folder), text);
}

export function writeJson(name: string, value: object): void {
  const date = new Date().toISOString().slice(0, 10);
  writeResult(`${name}.json`, `${JSON.stringify({ machine: machine(), date, ...value }, undefined, 1)}\n`);
}
