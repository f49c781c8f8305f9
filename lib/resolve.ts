/**
 * Turns "auto" into a device and an arithmetic, with the reason, from what this machine can do.
 */
import { availableParallelism } from "node:os";
import { MatryoshkaError } from "./errors.js";
import { type NativeGpu, type NativeGpus, type NativeMachine, native } from "./native.js";
import type { NativeDevice, NativeOptions } from "./native-engine.js";
import type { Device, Dtype, OpenOptions } from "./types.js";

/** What the addon can use of this machine. */
export type Machine = NativeMachine;

/** The instruction sets that can be forced, best first, and the features behind them. Loads the addon. */
export function machine(): Machine {
  return native().machine();
}

/**
 * The GPUs here, or why there are none. Loads the CUDA object on first use, where it is built; whatever is wrong with it is a
 * reason, never an error.
 */
export function gpus(): NativeGpus {
  const addon = native();
  try {
    return addon.gpus();
  } catch (error) {
    return { devices: [], reason: (error as Error).message, object: "", toolkit: 0, driver: 0 };
  }
}

/** A choice with its reason, as `matryoshka doctor` shows it. */
export interface DtypeChoice {
  readonly dtype: NativeOptions["dtype"];
  readonly reason: string;
}

export interface DeviceChoice {
  readonly device: "cpu" | `cuda:${number}`;
  readonly reason: string;
}

export interface ResolvedOpen {
  readonly dtype: NativeOptions["dtype"];
  readonly engines: readonly NativeOptions[];
  /** The CPU, where a GPU was chosen for the caller: to be taken where the model does not open there. */
  readonly fallback?: ResolvedOpen;
}

/** What choices depend on; functions, so that nothing is looked for that does not matter. */
export interface Here {
  machine(): Machine;
  gpus(): Pick<NativeGpus, "devices" | "reason">;
  /** The instruction set that is forced, or "". */
  isa(): string;
}

const HERE: Here = { machine, gpus, isa: () => process.env.MATRYOSHKA_ISA ?? "" };

/** What each device computes in. */
const DTYPES = {
  cpu: ["f32", "bf16", "int8"],
  cuda: ["f32", "bf16", "f16"],
  emulator: ["f32", "bf16", "f16"],
  reference: ["f32"],
} as const satisfies Record<string, readonly NativeOptions["dtype"][]>;

/** Whether a device of this kind computes in it, or may choose. */
const computes = (kind: keyof typeof DTYPES, dtype: Dtype) =>
  dtype === "auto" || (DTYPES[kind] as readonly string[]).includes(dtype);

/** Compute capability × 10 from which tensor cores multiply bf16. */
const BF16_CAPABILITY = 80;

const capability = ({ index, name, capability }: NativeGpu) =>
  `cuda:${index} ${name}, compute capability ${(capability / 10).toFixed(1)}`;

/** The device that "auto" stands for: the first GPU that multiplies bf16, where that fits what else was asked for. */
export function chooseDevice(dtype: Dtype = "auto", here: Here = HERE): DeviceChoice {
  const cpu = (reason: string): DeviceChoice => ({ device: "cpu", reason });
  const isa = here.isa();
  if (isa !== "") return cpu(`MATRYOSHKA_ISA=${isa} forces a set of the CPU's instructions`);
  if (!computes("cuda", dtype)) return cpu(`a GPU does not compute in ${dtype}`);
  const { devices, reason } = here.gpus();
  if (devices.length === 0) return cpu(`no GPU: ${reason}`);
  const gpu = devices.find((each) => each.capability >= BF16_CAPABILITY);
  return gpu
    ? { device: `cuda:${gpu.index}`, reason: `the first GPU of compute capability 8.0 or later: ${capability(gpu)}` }
    : cpu(
        `no GPU of compute capability 8.0 or later, others must be asked for by name: ${devices.map(capability).join("; ")}`,
      );
}

/** int8 is never chosen by itself: it keeps 97 % of the top 10, and "auto" asks for the 99 % that bf16 keeps. */
const INT8 = "int8 is faster but keeps 97 % of f32's top 10 where bf16 keeps 99 %, so it must be asked for";
/** Nor is f16, which tensor cores that have both multiply at the same rate. */
const F16 = "f16 has no certificates, so it must be asked for";

/**
 * The arithmetic that "auto" stands for on a machine's CPU, or on these GPUs of it: the fastest that keeps 99 % of f32's top
 * 10 and has certificates (docs/devices.md).
 */
export function chooseDtype({ features }: Machine, on: readonly NativeGpu[] = []): DtypeChoice {
  if (on.length > 0)
    return on.every((gpu) => gpu.capability >= BF16_CAPABILITY)
      ? { dtype: "bf16", reason: `the GPU's tensor cores multiply bf16; ${F16}` }
      : { dtype: "f32", reason: `a GPU before compute capability 8.0 does not multiply bf16; ${F16}` };
  return features.includes("avx512_bf16")
    ? { dtype: "bf16", reason: `the processor multiplies bf16 natively (avx512_bf16); ${INT8}` }
    : { dtype: "f32", reason: `the processor has no native bf16 products; ${INT8}` };
}

/** What "auto" stands for here, for both. */
export function chooseHere(here: Here = HERE): { readonly device: DeviceChoice; readonly dtype: DtypeChoice } {
  const device = chooseDevice("auto", here);
  const on = device.device === "cpu" ? [] : gpusAmong([device.device], here);
  return { device, dtype: chooseDtype(here.machine(), on) };
}

/** The GPUs of "cuda:0,1", each once, or the one device there is. */
function devicesOf(device: Exclude<Device, "auto">): NativeDevice[] {
  const [, list] = /^cuda:([\d,]+)$/.exec(device) ?? [];
  const numbers = new Set(list?.split(",").map(Number));
  return list ? [...numbers].map((number) => `cuda:${number}` as const) : [device as NativeDevice];
}

/** Those of the devices that are GPUs and are here. */
function gpusAmong(devices: readonly NativeDevice[], here: Here): NativeGpu[] {
  const numbers = devices.map((device) => Number(/^cuda(?::(\d+))?$/.exec(device)?.[1] ?? 0));
  return here.gpus().devices.filter(({ index }) => numbers.includes(index));
}

/** What "auto" means on a device; f32 where only opening it can say what is wrong. */
function dtypeOn(device: string, devices: readonly NativeDevice[], here: Here): NativeOptions["dtype"] {
  if (device === "cpu") return chooseDtype(here.machine()).dtype;
  if (!device.startsWith("cuda")) return "f32";
  const on = gpusAmong(devices, here);
  return on.length > 0 ? chooseDtype(here.machine(), on).dtype : "f32";
}

/** Options of each engine of an opened model, one a device. `MATRYOSHKA_ISA` forces an instruction set. */
export function resolveOpen(options: OpenOptions, here: Here = HERE): ResolvedOpen {
  const { device: asked = "auto", dtype: wanted = "auto", threads = availableParallelism() } = options;
  const device = asked === "auto" ? chooseDevice(wanted, here).device : asked;
  const devices = devicesOf(device);
  const kind = device.replace(/:.*/, "") as keyof typeof DTYPES;
  if (!computes(kind, wanted))
    throw new MatryoshkaError(
      "ERR_UNSUPPORTED_DTYPE",
      `Expected ${DTYPES[kind].map((name) => `"${name}"`).join(", ")} or "auto" for options.dtype but received "${wanted}": ` +
        `that is all the ${device} device computes in.`,
    );
  const dtype = wanted === "auto" ? dtypeOn(device, devices, here) : wanted;
  const isa = here.isa();
  return {
    dtype,
    engines: devices.map((each) => ({ device: each, dtype, threads, isa })),
    ...(asked !== device &&
      kind === "cuda" &&
      computes("cpu", wanted) && { fallback: resolveOpen({ ...options, device: "cpu" }, here) }),
  };
}
