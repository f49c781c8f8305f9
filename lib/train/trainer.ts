/**
 * Opens the native trainer as a configuration says.
 */
import { MatryoshkaError } from "../errors.js";
import { MATCH_TYPES } from "../match-types.js";
import { fromNative, native } from "../native.js";
import type { NativeTrainer, NativeTrainerInfo, TrainDevice } from "../native-trainer.js";
import type { TrainConfig } from "./types.js";

export interface OpenTrainer {
  readonly trainer: NativeTrainer;
  readonly info: NativeTrainerInfo;
}

/**
 * Reads the weights of `config.init`. Throws what `Reranker.open` throws for a checkpoint, and `ERR_CONFIG_INVALID` where
 * the configuration is for another model; on a GPU also `ERR_UNSUPPORTED_DEVICE`, `ERR_UNSUPPORTED_DTYPE` for f32,
 * `ERR_UNSUPPORTED_ARCHITECTURE` for sizes its kernels lack. `MATRYOSHKA_ISA` forces an instruction set.
 */
export async function openTrainer(
  config: TrainConfig,
  threads: number,
  device: TrainDevice = "cpu",
): Promise<OpenTrainer> {
  const { dtype, seed, turnTokens, recompute, layerDropout, exitLayers, head, carry, tokenTypes } = config;
  const { beta1, beta2, epsilon, weightDecay, clip } = config.optimizer;
  const trainer = new (native().Trainer)(config.init, {
    ...{ device, threads, isa: process.env.MATRYOSHKA_ISA ?? "", dtype, seed, turnTokens, recompute, layerDropout },
    ...{ beta1, beta2, epsilon, weightDecay, clip },
    ...(exitLayers && { exitLayers }),
    ...(head && { head }),
    ...(carry && { carry }),
    ...(tokenTypes === "match" && { typeRows: MATCH_TYPES }),
  });
  try {
    const info = await trainer.ready;
    assertFits(config, info);
    return { trainer, info };
  } catch (error) {
    trainer.close();
    throw fromNative(error);
  }
}

/** What can be said of a configuration only once the model is known. */
function assertFits({ init, loss, maxLength }: TrainConfig, { exitLayers, maxTokens }: NativeTrainerInfo): void {
  const wrong = (expected: string) => {
    throw new MatryoshkaError("ERR_CONFIG_INVALID", `Expected ${expected}: the model is ${init}.`);
  };
  const { exitWeights, distill } = loss;
  const exits = `its exit layers ${exitLayers.join(", ")}`;
  if (exitWeights.length !== exitLayers.length)
    wrong(`loss.exitWeights to have one weight for each of ${exits}, but it has ${exitWeights.length}`);
  const anchor = distill.anchors.find((layer) => !exitLayers.includes(layer));
  if (anchor !== undefined) wrong(`loss.distill.anchors among ${exits}, but one is ${anchor}`);
  if (maxLength > maxTokens) wrong(`maxLength of at most ${maxTokens} tokens, but it is ${maxLength}`);
}
