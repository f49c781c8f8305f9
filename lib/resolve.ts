/**
 * Turns "auto" into a device and an arithmetic, with the reason, from what this machine can do.
 */
import { availableParallelism } from "node:os";
import { MatryoshkaError } from "./errors.js";
import { type NativeDevice, type NativeMachine, type NativeOptions, native } from "./native.js";
import type { Device, OpenOptions } from "./types.js";

/** What the addon can use of this machine. */
export type Machine = NativeMachine;

/** The instruction sets that can be forced, best first, and the features behind them. Loads the addon. */
export function machine(): Machine {
  return native().machine();
}

/** A choice with its reason, as `matryoshka doctor` shows it. */
export interface DtypeChoice {
  readonly dtype: NativeOptions["dtype"];
  readonly reason: string;
}

export interface ResolvedOpen {
  readonly dtype: NativeOptions["dtype"];
  readonly engines: readonly NativeOptions[];
}

/** int8 is never chosen by itself: it keeps 97 % of the top 10, and "auto" asks for the 99 % that bf16 keeps. */
const INT8 = "int8 is faster but keeps 97 % of f32's top 10 where bf16 keeps 99 %, so it must be asked for";

/** The arithmetic that "auto" stands for on a machine: the fastest that keeps 99 % of f32's top 10 (docs/devices.md). */
export function chooseDtype({ features }: Machine): DtypeChoice {
  return features.includes("avx512_bf16")
    ? { dtype: "bf16", reason: `the processor multiplies bf16 natively (avx512_bf16); ${INT8}` }
    : { dtype: "f32", reason: `the processor has no native bf16 products; ${INT8}` };
}

/** What each device computes in, and what "auto" means there. */
const DTYPES = {
  cpu: ["f32", "bf16", "int8"],
  cuda: ["f32", "bf16", "f16"],
  emulator: ["f32", "bf16", "f16"],
  reference: ["f32"],
} as const satisfies Record<string, readonly NativeOptions["dtype"][]>;

/** The GPUs of "cuda:0,1", each once, or the one device there is. */
function devicesOf(device: Exclude<Device, "auto">): NativeDevice[] {
  const [, list] = /^cuda:([\d,]+)$/.exec(device) ?? [];
  const numbers = new Set(list?.split(",").map(Number));
  return list ? [...numbers].map((number) => `cuda:${number}` as const) : [device as NativeDevice];
}

/** Options of each engine of an opened model, one a device. `MATRYOSHKA_ISA` forces an instruction set. */
export function resolveOpen(options: OpenOptions): ResolvedOpen {
  const { device: asked = "auto", dtype: wanted = "auto", threads = availableParallelism() } = options;
  const device = asked === "auto" ? "cpu" : asked;
  const dtype = wanted !== "auto" ? wanted : device === "cpu" ? chooseDtype(machine()).dtype : "f32";
  const possible: readonly string[] = DTYPES[device.replace(/:.*/, "") as keyof typeof DTYPES];
  if (!possible.includes(dtype))
    throw new MatryoshkaError(
      "ERR_UNSUPPORTED_DTYPE",
      `Expected ${possible.map((name) => `"${name}"`).join(", ")} or "auto" for options.dtype but received "${dtype}": ` +
        `that is all the ${device} device computes in.`,
    );
  const isa = process.env.MATRYOSHKA_ISA ?? "";
  return { dtype, engines: devicesOf(device).map((each) => ({ device: each, dtype, threads, isa })) };
}
