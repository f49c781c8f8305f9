import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // "auto" is the CPU in every test; those that are about GPUs run by `npm run test:gpu`.
    env: process.env.MATRYOSHKA_TEST_GPU ? {} : { CUDA_VISIBLE_DEVICES: "" },
  },
});
