/**
 * Plants one bug at a time in a copy of the kernels and requires the tests to catch it: `node test/native/cuda/mutants.mjs
 * [name…]`. A mutant that survives is a hole in the net, and so is one that no longer applies. docs/cuda.md lists them.
 *
 * `under` names the sanitizer that the catching test is built with: "thread" for what only a race detector sees.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const kernels = "native/cuda/kernels";

export const MUTANTS = [
  {
    name: "gemm: no barrier after the wait",
    file: `${kernels}/gemm.cuh`,
    from: "sync_block();  // everybody's copies",
    to: "// everybody's copies",
    test: "cuda_gemm_test",
  },
  {
    name: "gemm: the wait is one group too weak",
    file: `${kernels}/gemm.cuh`,
    from: "cp_async_wait<T::kStages - 2>()",
    to: "cp_async_wait<T::kStages - 1>()",
    test: "cuda_gemm_test",
  },
  {
    name: "gemm: staging starts before everybody has read the ring",
    file: `${kernels}/gemm.cuh`,
    from: "sync_block();  // the ring is free",
    to: "// the ring is free",
    test: "cuda_gemm_test",
    under: "thread",
  },
  {
    name: "gemm: the next tile refills the ring while the result is still read from it",
    file: `${kernels}/gemm_mma.cuh`,
    from: "sync_block();  // the next tile",
    to: "// the next tile",
    test: "cuda_gemm_test",
    under: "thread",
  },
  {
    name: "gemm: rows past the end are written",
    file: `${kernels}/gemm_mma.cuh`,
    from: "if (m0 + r < m)",
    to: "if (m0 + r <= m)",
    test: "cuda_gemm_test",
  },
  {
    name: "gemm: the row map is off by one",
    file: `${kernels}/gemm.cuh`,
    from: "load(args.row_map + row)",
    to: "load(args.row_map + row) + (row > 0)",
    test: "cuda_gemm_test",
  },
  {
    name: "tile: a swizzle that is wrong but consistent",
    file: `${kernels}/tile.cuh`,
    from: "c ^ (r >> 1 & 3)",
    to: "c",
    test: "cuda_gemm_test",
  },
  {
    name: "gemm: fragments of the weights in the wrong order",
    file: `${kernels}/gemm_mma.cuh`,
    from: "lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2",
    to: "lane % 16, k * 2 + lane / 16",
    test: "cuda_gemm_test",
  },
  {
    name: "attention: no barrier before a stage is refilled",
    file: `${kernels}/attention_mma.cuh`,
    from: "sync_block();  // the next round",
    to: "// the next round",
    test: "cuda_attention_test",
  },
  {
    name: "attention: keys past the sequence's end are seen",
    file: `${kernels}/attention_mma.cuh`,
    from: "lane % 4 * 2 + e < item.keys",
    to: "lane % 4 * 2 + e <= item.keys",
    test: "cuda_attention_test",
  },
  {
    name: "attention: a row too many is written",
    file: `${kernels}/attention_mma.cuh`,
    from: "if (r < item.queries)",
    to: "if (r <= item.queries)",
    test: "cuda_attention_test",
  },
  {
    name: "attention: the sum is not shrunk with the maximum",
    file: `${kernels}/attention_mma.cuh`,
    from: "total[half] *= shrink;",
    to: "",
    test: "cuda_attention_test",
  },
  {
    name: "attention in f32: weights are read before everybody has written them",
    file: `${kernels}/attention_fma.cuh`,
    from: "      sync_block();\n\n      for (int k0",
    to: "\n      for (int k0",
    test: "cuda_attention_test",
    under: "thread",
  },
  {
    name: "attention: keys are read where they were before the compaction, always",
    file: `${kernels}/attention.cuh`,
    from: "args.compacted ? load(args.active.source_rows + sequence) : begin",
    to: "begin",
    test: "cuda_attention_test",
  },
  {
    name: "norm: the mean counts the padding",
    file: `${kernels}/row.cuh`,
    from: "warp_sum(sum) / width",
    to: "warp_sum(sum) / stride_",
    test: "cuda_row_test",
  },
  {
    name: "compaction: the size of the old set stays",
    file: `${kernels}/compact.cuh`,
    from: "store(to.counts + kSequences, sequences);",
    to: "store(to.counts + kSequences, n);",
    test: "cuda_exit_test",
  },
  {
    name: "compaction: the row map is off by one",
    file: `${kernels}/compact.cuh`,
    from: "source + r - begin",
    to: "source + r - begin + 1",
    test: "cuda_exit_test",
  },
  {
    name: "compaction: a scan's scratch is written before everybody has read it",
    file: `${kernels}/compact.cuh`,
    from: "sync_block();  // the next scan",
    to: "// the next scan",
    test: "cuda_exit_test",
    under: "thread",
  },
  {
    name: "decision: ties take no notice of their order",
    file: `${kernels}/decide.cuh`,
    from: "(other == low && j < i)",
    to: "(other == low && j <= i)",
    test: "cuda_exit_test",
  },
  {
    name: "decision: documents are ranked before all bounds are there",
    file: `${kernels}/decide.cuh`,
    from: "sync_block();  // all bounds",
    to: "// all bounds",
    test: "cuda_exit_test",
    under: "thread",
  },
];

const SIMT = ["emulator", "fiber", "memory", "warp"].map((name) => `native/simt/${name}.cc`);
const ENGINE = {
  cuda_exit_test: ["exit_rule", "active_set", "rules/confidence", "rules/top_k"].map((name) => `native/engine/${name}.cc`),
};

function compile(folder, test, under, output) {
  const flags = ["-std=c++17", "-O1", "-g", "-w", "-ffp-contract=off", "-fno-strict-aliasing", "-Inative", "-Itest/native", "-Itest/native/cuda"];
  const watched = under ? [`-fsanitize=${under}`] : [];
  const run = (...args) => {
    const { status, stderr } = spawnSync("g++", args, { cwd: folder, encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  };
  // The emulator's own lists stay out of the race detector's sight; see native/simt/CMakeLists.txt.
  const objects = SIMT.map((source, i) => {
    const object = `${output}.${i}.o`;
    run(...flags, ...(under === "thread" ? ["-DMATRYOSHKA_SIMT_TSAN"] : watched), "-c", source, "-o", object);
    return object;
  });
  run(...flags, ...watched, `test/native/cuda/${test}.cc`, "test/native/check.cc", ...(ENGINE[test] ?? []), ...objects, "-o", output);
}

/** Whether the test fails, and its first complaint. */
function caught(program, under) {
  const command = under === "thread" ? ["setarch", ["-R", program]] : [program, []];
  const { status, stdout, stderr } = spawnSync(...command, {
    encoding: "utf8",
    timeout: 300_000,
    env: { ...process.env, TSAN_OPTIONS: "history_size=7 halt_on_error=1" },
  });
  const complaint = /FAIL .*\n.*|SUMMARY: .*/.exec(stdout + stderr)?.[0] ?? "";
  return { failed: status !== 0, complaint: complaint.replace(/\s+/g, " ").slice(0, 140) };
}

const asked = process.argv.slice(2);
const chosen = MUTANTS.filter(({ name }) => asked.length === 0 || asked.some((word) => name.includes(word)));
const folder = mkdtempSync(join(tmpdir(), "matryoshka-mutants-"));
let survivors = 0;
try {
  for (const part of ["native/cuda", "native/simt", "native/engine", "native/model", "test/native"])
    cpSync(join(root, part), join(folder, part), { recursive: true });
  for (const { name, file, from, to, test, under } of chosen) {
    const path = join(folder, file);
    const source = readFileSync(path, "utf8");
    if (!source.includes(from)) throw new Error(`Mutant "${name}" no longer applies: ${file} has no ${JSON.stringify(from)}`);
    writeFileSync(path, source.replace(from, to));
    compile(folder, test, under, join(folder, "mutant"));
    writeFileSync(path, source);
    const { failed, complaint } = caught(join(folder, "mutant"), under);
    if (!failed) survivors++;
    console.log(`${failed ? "caught  " : "SURVIVED"} ${name}${under ? ` (under the ${under} sanitizer)` : ""}: ${complaint}`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
console.log(`${chosen.length - survivors} of ${chosen.length} mutants caught`);
process.exitCode = survivors > 0 ? 1 : 0;
