/**
 * `npm run test:emulator:full`: the CUDA kernels on the emulator in every shape, under every sanitizer and with every bug
 * planted. It takes a quarter of an hour on two cores; `npm test` has a choice of it.
 */
import { bin, jobs, native, runStages } from "./stages.mjs";

const kernels = ["-R", "^(simt|cuda)_", "--output-on-failure", "-j", jobs];

runStages([
  {
    name: "every shape and schedule",
    commands: [...native("emulator", "-DCMAKE_BUILD_TYPE=Release", "-DMATRYOSHKA_TEST_FOLDERS=model;engine;cuda"), ["ctest", "--test-dir", "build/emulator", ...kernels]],
  },
  {
    name: "under AddressSanitizer and UBSan",
    commands: [
      ...native("sanitized", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DMATRYOSHKA_SANITIZE=address,undefined"),
      ["ctest", "--test-dir", "build/sanitized", ...kernels],
    ],
  },
  {
    name: "under ThreadSanitizer, and with every bug planted",
    commands: [[process.execPath, "test/native/cuda/mutants.mjs", "--all"]],
  },
  {
    name: "goldens, exits and budgets through the public API",
    commands: [[bin("vitest"), "run", "test/70.gpu", "test/71"]],
  },
]);
