/**
 * Turns "auto" into a device and an arithmetic, with the reason, from what this machine can do.
 */
import { availableParallelism } from "node:os";
import { MatryoshkaError } from "./errors.js";
import { type NativeMachine, type NativeOptions, native } from "./native.js";
import type { OpenOptions } from "./types.js";

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

/** The arithmetic that "auto" stands for on a machine. */
export function chooseDtype({ features }: Machine): DtypeChoice {
  return features.includes("avx512_bf16")
    ? { dtype: "bf16", reason: "the processor multiplies bf16 natively (avx512_bf16)" }
    : { dtype: "f32", reason: "the processor has no native bf16 products" };
}

/** The engine's options for an opened model. `MATRYOSHKA_ISA` forces an instruction set. */
export function resolveOpen(options: OpenOptions): NativeOptions {
  const { device = "auto", dtype = "auto", threads = availableParallelism() } = options;
  const isa = process.env.MATRYOSHKA_ISA ?? "";
  if (device === "reference") {
    if (dtype !== "auto" && dtype !== "f32")
      throw new MatryoshkaError(
        "ERR_UNSUPPORTED_DTYPE",
        `Expected "f32" or "auto" for options.dtype but received "${dtype}": the reference device computes in double ` +
          "precision only.",
      );
    return { device, dtype: "f32", threads, isa };
  }
  return { device: "cpu", dtype: dtype === "auto" ? chooseDtype(machine()).dtype : dtype, threads, isa };
}
