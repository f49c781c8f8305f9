/**
 * What nvcc makes of the kernels keeps its budgets: registers, no spills, tensor cores where they belong. Needs nvcc, no
 * GPU.
 */
import { describe, expect, it } from "vitest";
import { type CompiledKernel, compile, nvcc } from "./fixtures/sass.js";

/** The product's, and what decoders will ask of them. */
const SOURCES = ["native/cuda/plugin.cu", "test/native/cuda/decoder_kernels.cu"];

interface Budget {
  readonly kernel: RegExp;
  readonly registers: number;
  /** Tensor-core instructions: those of every main loop, unrolled once. */
  readonly mma?: number;
  /** Least share of them in the main loop. */
  readonly densest?: number;
}

/** On sm_80. docs/cuda.md says where the numbers come from. */
const BUDGETS: readonly Budget[] = [
  { kernel: /^gemm_mma</, registers: 244, mma: 64 + 16, densest: 0.4 },
  { kernel: /^gemm_fma</, registers: 128 },
  { kernel: /^attention_mma<.*, 32>/, registers: 157, mma: 16 + 16, densest: 0.1 },
  { kernel: /^attention_mma<.*, 64>/, registers: 168, mma: 32 + 32, densest: 0.2 },
  { kernel: /^attention_mma<.*, 128>/, registers: 203, mma: 32 + 32, densest: 0.2 },
  { kernel: /^attention_mma<.*, 64, Causal>/, registers: 168, mma: 32 + 32, densest: 0.2 },
  { kernel: /^attention_mma<.*, 128, Causal>/, registers: 208, mma: 32 + 32, densest: 0.2 },
  { kernel: /^attention_fma</, registers: 168 },
  { kernel: /^(embed|residual|head)<.*, 1024>/, registers: 168 },
  { kernel: /^(embed|residual|head)<.*, 2048>/, registers: 255 },
  { kernel: /^rope</, registers: 72 },
  { kernel: /^product</, registers: 254, mma: 64, densest: 0.4 },
  { kernel: /^attention_query_gradient<.*, 32>/, registers: 176, mma: 80, densest: 0.2 },
  { kernel: /^attention_query_gradient<.*, 64>/, registers: 208, mma: 160, densest: 0.4 },
  { kernel: /^attention_query_gradient<.*, 128>/, registers: 220, mma: 160, densest: 0.4 },
  { kernel: /^attention_key_gradient<.*, 32>/, registers: 186, mma: 64, densest: 0.25 },
  { kernel: /^attention_key_gradient<.*, 64>/, registers: 224, mma: 128, densest: 0.4 },
  { kernel: /^attention_key_gradient<.*, 128>/, registers: 254, mma: 128, densest: 0.4 },
  { kernel: /^norm_(forward|backward)<.*, 1024>/, registers: 112 },
  { kernel: /^norm_(forward|backward)<.*, 2048>/, registers: 192 },
  { kernel: /^(activate_all|sum_rows|gather_rows|add_rows|embedding_sum|narrow_all)\b/, registers: 64 },
  { kernel: /^(gather|decide|compact|map_rows)$/, registers: 64 },
];

const compiler = nvcc();

describe.skipIf(!compiler)("the kernels on sm_80", () => {
  let compiled: CompiledKernel[] = [];

  it("compile, each under a budget", { timeout: 300_000 }, () => {
    compiled = SOURCES.flatMap((source) => compile(compiler!, source, 80));
    expect(compiled.length).toBeGreaterThan(50);
    for (const { name } of compiled)
      expect(
        BUDGETS.filter(({ kernel }) => kernel.test(name)),
        name,
      ).toHaveLength(1);
    for (const { name, registers, instructions, counts, densest } of compiled)
      console.log(
        `${name}: ${registers} registers, ${instructions} instructions, ${counts.HMMA} HMMA (${(100 * densest).toFixed(0)} % ` +
          `of the densest 128), ${counts.LDSM} LDSM, ${counts.LDGSTS} LDGSTS`,
      );
  });

  it("spill nothing and touch no local memory", () => {
    for (const { name, spilledBytes, counts } of compiled)
      expect([name, spilledBytes, counts.LDL, counts.STL]).toEqual([name, 0, 0, 0]);
  });

  it("keep to their registers, and use the tensor cores as often as the products need", () => {
    for (const kernel of compiled) {
      const budget = BUDGETS.find((each) => each.kernel.test(kernel.name))!;
      expect(kernel.registers, kernel.name).toBeLessThanOrEqual(budget.registers);
      expect(kernel.counts.HMMA, kernel.name).toBe(budget.mma ?? 0);
      expect(kernel.densest, kernel.name).toBeGreaterThanOrEqual(budget.densest ?? 0);
    }
  });
});

if (!compiler) console.log("skipped the kernels' budgets: nvcc is not installed");
