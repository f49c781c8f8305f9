/**
 * OUT/model: the model in training as a checkpoint that `Reranker.open` reads, whole or not at all.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { NativeTrainer, NativeTrainerInfo } from "../native-trainer.js";
import { readJson } from "../read-json.js";
import { writeDirectory, writeSynced } from "../write-whole.js";
import type { TrainConfig } from "./types.js";

/** A tokenizer's files, of which only the first must be there. */
const TOKENIZER = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "vocab.txt",
  "sentencepiece.bpe.model",
];

export interface ExportOptions {
  /** The checkpoint the run began with. */
  readonly init: string;
  readonly info: NativeTrainerInfo;
  readonly tokenTypes: TrainConfig["tokenTypes"];
  readonly carry: TrainConfig["carry"];
  /** Where the weights come from, in the words of whoever trained: data, recipe, steps. */
  readonly provenance: object;
}

/** Takes the place of an earlier export in `directory`. Throws `ERR_FILE`. */
export async function exportModel(
  trainer: NativeTrainer,
  directory: string,
  { init, info, tokenTypes, carry, provenance }: ExportOptions,
): Promise<void> {
  const config = {
    ...(await readJson(join(init, "config.json"))),
    ...{ type_vocab_size: info.tokenTypes, torch_dtype: "float16" },
  };
  const matryoshka = {
    ...{ formatVersion: 1, exitLayers: info.exitLayers, head: info.head, compensation: "none", tokenTypes },
    ...(carry && { carry }),
    provenance,
  };
  const json = (value: object) => `${JSON.stringify(value, undefined, 2)}\n`;
  await writeDirectory(directory, async (temporary) => {
    await trainer.export(temporary);
    for (const name of TOKENIZER) await copyIfThere(join(init, name), join(temporary, name));
    await writeSynced(join(temporary, "config.json"), json(config));
    await writeSynced(join(temporary, "matryoshka.json"), json(matryoshka));
  });
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await writeSynced(to, await readFile(from));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause;
  }
}
