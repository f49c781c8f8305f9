/**
 * A layer's kernels as operations and bytes, in 16 bits, and the least time that a GPU needs for them.
 */

/** What the emulator counted of one kernel over a sample of tokens. */
export interface Traffic {
  readonly kernel: string;
  readonly launches: number;
  readonly bytes: number;
}

export interface KernelWork {
  readonly name: string;
  readonly flops: number;
  /** Inputs, weights and outputs once each: what crosses the memory bus however good the caches are. */
  readonly compulsory: number;
  /** What the kernel asks for, repeats included; L2 serves what is not compulsory. */
  readonly asked: number;
}

const ELEMENT = 2;

/**
 * The kernels of one layer over sequences of `tokens`. `counted` is of `sample` tokens in sequences of about the same
 * mean length; bytes grow in proportion to tokens, as each tile of rows reads the weights anew.
 */
export function kernels(
  { hidden: H, intermediate: F }: { readonly hidden: number; readonly intermediate: number },
  tokens: Int32Array,
  counted: readonly Traffic[],
  sample: number,
): KernelWork[] {
  const rows = tokens.reduce((sum, n) => sum + n, 0);
  const pairs = tokens.reduce((sum, n) => sum + n * n, 0);
  const bytesOf = (name: string) => counted.find(({ kernel }) => kernel === name)?.bytes ?? 0;
  const product = (name: string, n: number, k: number, count = 1): KernelWork => ({
    name,
    flops: 2 * rows * n * k * count,
    compulsory: ELEMENT * (rows * (n + k) + n * k) * count,
    asked: (bytesOf(`gemm ${n} x ${k}`) * rows) / sample,
  });
  return [
    product("keys, values", 2 * H, H),
    product("query; attention output", H, H, 2),
    {
      name: "attention",
      flops: 4 * H * pairs,
      compulsory: ELEMENT * rows * 4 * H,
      asked: (bytesOf("attention") * rows) / sample,
    },
    product("MLP up, GELU", F, H),
    product("MLP down", H, F),
    {
      name: "residual, norm (twice)",
      flops: 0,
      compulsory: 2 * ELEMENT * rows * 3 * H,
      asked: (bytesOf("residual") * rows) / sample,
    },
  ];
}

/** The larger of operations over peak and compulsory bytes over bandwidth. */
export function lowerBound(
  { flops, compulsory }: KernelWork,
  { tflops, gbs }: { readonly tflops: number; readonly gbs: number },
): { readonly microseconds: number; readonly by: "arithmetic" | "memory" } {
  const [compute, memory] = [flops / tflops / 1e6, compulsory / gbs / 1e3];
  return { microseconds: Math.max(compute, memory), by: compute > memory ? "arithmetic" : "memory" };
}
