/**
 * What is made of a GPU's figures: its peaks from its own data, each kernel against the roofline, the proof that nothing
 * crosses between host and device within a batch.
 */
import { type KernelWork, lowerBound } from "./roofline-model.js";

/** Of NativeGpu. */
export interface Gpu {
  readonly name: string;
  readonly capability: number;
  readonly multiprocessors: number;
  readonly clockGHz: number;
  readonly gigabytesPerSecond: number;
}

/** Of NativeTrace. */
export interface Trace {
  readonly calls: readonly string[];
  readonly kernels: readonly string[];
  readonly milliseconds: readonly Float32Array[];
}

export interface Peak {
  readonly tflops: number;
  readonly gbs: number;
}

/** Dense 16-bit operations with f32 sums that a multiprocessor does in a clock, by compute capability. */
const OPERATIONS: Readonly<Record<number, number>> = { 75: 1024, 80: 2048, 86: 1024, 89: 1024, 90: 4096, 120: 1024 };

/** Peaks at the highest clocks; GeForce chips sum f32 at half the rate. Nothing where something is not known. */
export function peakOf({ name, capability, multiprocessors, clockGHz, gigabytesPerSecond }: Gpu): Peak | undefined {
  const rate = (OPERATIONS[capability] ?? 0) / (name.includes("GeForce") ? 2 : 1);
  const peak = { tflops: (multiprocessors * clockGHz * rate) / 1e3, gbs: gigabytesPerSecond };
  return peak.tflops > 0 && peak.gbs > 0 ? peak : undefined;
}

export interface KernelTime {
  readonly name: string;
  readonly launches: number;
  /** Of a whole layer. */
  readonly microseconds: number;
  readonly bound?: { readonly microseconds: number; readonly by: "arithmetic" | "memory" };
}

/**
 * Each kernel of a whole layer: the sum of its launches' medians over all layers but the last, which is a peek, by the
 * number of those layers.
 */
export function kernelTimes(
  { kernels, milliseconds }: Trace,
  work: readonly KernelWork[],
  layers: number,
  peak: Peak | undefined,
): KernelTime[] {
  const typical = medians(milliseconds);
  return work.map((each) => {
    const own = typical.filter((_, i) => kernels[i] === each.kernel);
    const whole = own.slice(0, (own.length / layers) * (layers - 1));
    return {
      name: each.name,
      launches: own.length / layers,
      microseconds: (1e3 * sum(whole)) / (layers - 1),
      ...(peak && { bound: lowerBound(each, peak) }),
    };
  });
}

/** All launches of a pass together, each at its median. */
export function kernelMilliseconds({ milliseconds }: Trace): number {
  return sum(medians(milliseconds));
}

/** A markdown table. */
export function kernelTable(times: readonly KernelTime[]): string[] {
  const row = ({ name, launches, microseconds, bound }: KernelTime) => {
    const share = bound
      ? `${bound.microseconds.toFixed(1)} | ${bound.by} | ${((100 * bound.microseconds) / microseconds).toFixed(1)} %`
      : "unknown | | ";
    return `| ${name} | ${Number(launches.toFixed(2))} | ${microseconds.toFixed(1)} | ${share} |`;
  };
  return [
    "| kernel of a layer | launches | µs | at least µs | bound by | share of the roofline |",
    "|---|---|---|---|---|---|",
    ...times.map(row),
  ];
}

/**
 * What is wrong with a batch whose host never comes between: it is uploaded, runs, is downloaded and waited for, once each
 * and in this order, and whatever else there is are kernels. Nothing where nothing is wrong.
 */
export function roundTrips(calls: readonly string[]): string | undefined {
  const ends = ["upload", "run", "download", "mark", "wait"];
  const crossings = calls.filter((call) => ends.includes(call) || call === "allocate");
  const inOrder = crossings.join(" ") === ends.join(" ");
  const outside = [calls.slice(0, 2), calls.slice(-3)].flat().join(" ") === ends.join(" ");
  return inOrder && outside
    ? undefined
    : `Expected ${ends.join(", ")} once each around the kernels but the host asked for ${crossings.join(", ")}`;
}

/** One line of a table of rates. */
export function rateLine(what: string, pairs: number, milliseconds: number, note = ""): string {
  const rate = (pairs / milliseconds) * 1e3;
  return `${what.padEnd(26)} ${milliseconds.toFixed(2).padStart(9)} ms ${rate.toFixed(0).padStart(8)} pairs/s  ${note}`.trimEnd();
}

function medians(rounds: readonly Float32Array[]): number[] {
  const middle = rounds.length >> 1;
  return Array.from(rounds[0] ?? [], (_, i) => rounds.map((round) => round[i]!).sort((a, b) => a - b)[middle]!);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
