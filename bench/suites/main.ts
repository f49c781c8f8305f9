/**
 * The package's own speed. Each suite prints a table and writes bench/results/SUITE.json, some a picture.
 *
 * Run: npm run bench [-- kernels layers end-to-end growth]
 */
import { machine } from "../machine.js";
import { endToEnd } from "./end-to-end.js";
import { growth } from "./growth.js";
import { kernels } from "./kernels.js";
import { layers } from "./layers.js";
import { writeJson } from "./results.js";

const SUITES: Readonly<Record<string, () => object | Promise<object>>> = {
  kernels,
  layers,
  "end-to-end": endToEnd,
  growth,
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(SUITES);
for (const name of wanted) {
  const suite = SUITES[name];
  if (!suite) throw new Error(`no suite ${name}; there are ${Object.keys(SUITES).join(", ")}`);
  console.log(`\n${name}: ${machine().line}`);
  writeJson(name, await suite());
}
