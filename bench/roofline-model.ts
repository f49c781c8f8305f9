/**
 * A layer's kernels as operations and bytes, in 16 bits, and the least time that a GPU needs for them.
 */

/** What the emulator counted of one layer over a sample of tokens: bytes by kernel, as NativeTrace names them. */
export interface Traffic {
  readonly bytes: ReadonlyMap<string, number>;
  readonly tokens: number;
}

export interface KernelWork {
  readonly name: string;
  /** As NativeTrace names it. */
  readonly kernel: string;
  readonly flops: number;
  /** Inputs, weights and outputs once each: what crosses the memory bus however good the caches are. */
  readonly compulsory: number;
  /** What the kernel asks for, repeats included; L2 serves what is not compulsory. */
  readonly asked: number;
}

const ELEMENT = 2;

/**
 * The kernels of one layer over sequences of `tokens`. What was counted, over sequences of about the same mean length,
 * grows in proportion to tokens, as each tile of rows reads the weights anew.
 */
export function kernels(
  { hidden: H, intermediate: F }: { readonly hidden: number; readonly intermediate: number },
  tokens: Int32Array,
  counted: Traffic,
): KernelWork[] {
  const rows = tokens.reduce((sum, n) => sum + n, 0);
  const pairs = tokens.reduce((sum, n) => sum + n * n, 0);
  const asked = (kernel: string) => ((counted.bytes.get(kernel) ?? 0) * rows) / counted.tokens;
  const product = (name: string, n: number, k: number, count = 1): KernelWork => {
    const kernel = `gemm ${n} x ${k}`;
    return {
      name,
      kernel,
      flops: 2 * rows * n * k * count,
      compulsory: ELEMENT * (rows * (n + k) + n * k) * count,
      asked: asked(kernel),
    };
  };
  const attention = { flops: 4 * H * pairs, compulsory: ELEMENT * rows * 4 * H, asked: asked("attention") };
  const residual = { flops: 0, compulsory: 2 * ELEMENT * rows * 3 * H, asked: asked("residual") };
  return [
    product("keys, values", 2 * H, H),
    product("query; attention output", H, H, 2),
    { name: "attention", kernel: "attention", ...attention },
    product("MLP up, GELU", F, H),
    product("MLP down", H, F),
    { name: "residual, norm (twice)", kernel: "residual", ...residual },
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
