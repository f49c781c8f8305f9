/**
 * The machine and small statistics that every benchmark prints beside its figures.
 */
import { availableParallelism, cpus, totalmem } from "node:os";
import { native } from "../dist/native.js";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly features: readonly string[];
  readonly node: string;
  readonly platform: string;
  /** All of it in one line. */
  readonly line: string;
}

export function machine(): Machine {
  const facts = {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    features: native().machine().features,
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
  };
  const line = `${facts.cpu}, ${facts.cores} cores, ${facts.memoryGiB} GiB, ${facts.features.join(" ")}; Node ${facts.node}, ${facts.platform}`;
  return { ...facts, line };
}

/** The middle value; the mean of the two middle ones where the count is even. */
export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** Linear interpolation between the two nearest ranks. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = ((sorted.length - 1) * percent) / 100;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}
