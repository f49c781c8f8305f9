/**
 * Lets a trained model's exits from some layer on carry a share of the exit before in their logits (docs/models.md), and takes
 * out certificates, which belong to its former scores.
 *
 *   node carry.mjs --model DIR --from 9 --share 0.2
 *
 * MODEL is changed in place.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: { model: { type: "string" }, from: { type: "string" }, share: { type: "string" } },
});
const file = join(values.model, "matryoshka.json");
const { certificates: _, ...settings } = JSON.parse(readFileSync(file, "utf8"));
const carry = settings.exitLayers.map((layer) => (layer < Number(values.from) ? 0 : Number(values.share)));
writeFileSync(file, `${JSON.stringify({ ...settings, carry }, undefined, 2)}\n`);
