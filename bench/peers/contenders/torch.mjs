/** PyTorch, where `python3` (or $PYTHON) has torch, numpy and safetensors. It times itself: see torch_bert.py. */
import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { batches } from "../workload.mjs";

const python = process.env.PYTHON ?? "python3";
export const batchSizes = [1, 2, 4, 8, 32];

/** Why it cannot run here; undefined if it can. */
export function missing(device = "cpu") {
  const works = (code) => spawnSync(python, ["-c", code], { stdio: "ignore" }).status === 0;
  if (!works("import torch, numpy, safetensors"))
    return `${python} has no torch, numpy and safetensors (set PYTHON to one that has)`;
  if (!works(`import torch; torch.zeros(1, device="${device}")`)) return `${python}'s torch cannot use ${device}`;
  return undefined;
}

export async function open(dtype, device = "cpu") {
  const script = fileURLToPath(new URL("../torch_bert.py", import.meta.url));
  const child = spawn(python, [script, dtype, device], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async () => JSON.parse((await lines.next()).value);
  const ask = (question) => {
    child.stdin.write(`${JSON.stringify(question)}\n`);
    return read();
  };
  return {
    version: (await read()).version,
    close: () => child.stdin.end(),
    prepare: (pairs, size) => async () => {
      const order = batches(pairs, size);
      const { milliseconds, cpu, logits } = await ask(
        order.map((indices) => indices.map((i) => ({ ids: pairs[i].ids, types: pairs[i].types }))),
      );
      const scores = new Array(pairs.length);
      order.flat().forEach((at, i) => {
        scores[at] = logits[i];
      });
      return { milliseconds, cpu, logits: scores };
    },
  };
}
