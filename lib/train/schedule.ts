/**
 * Learning rates: a linear rise, then a decay to zero at the last step.
 */
import type { TrainConfig } from "./types.js";

/** Share of the peak rate that step `step` (from 0) of `steps` learns at, in (0, 1]. */
export function rateFactor(
  { steps, optimizer: { warmup, decay } }: Pick<TrainConfig, "steps" | "optimizer">,
  step: number,
): number {
  const rising = Math.round(warmup * steps);
  if (step < rising) return (step + 1) / rising;
  // In (0, 1]: the last step still learns.
  const left = (steps - step) / (steps - rising);
  if (decay === "linear") return left;
  return decay === "cosine" ? 0.5 * (1 - Math.cos(Math.PI * left)) : 1;
}

/** Rates of step `step`, from 0. */
export function ratesAt(config: TrainConfig, step: number): { readonly encoder: number; readonly heads: number } {
  const factor = rateFactor(config, step);
  const { encoder, heads } = config.optimizer;
  return { encoder: factor * encoder, heads: factor * heads };
}
