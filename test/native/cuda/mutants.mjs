/**
 * The kernels' tests under ThreadSanitizer, which must find nothing; then one planted bug at a time in a copy of the
 * kernels, which the tests must catch. A mutant that survives is a hole in the net, and so is one that no longer applies.
 * docs/cuda.md lists them.
 *
 *   node test/native/cuda/mutants.mjs [--all | name…]
 *
 * Without arguments, the mutants marked `quick`, which `npm test` plants. `under` names the sanitizer that the catching
 * test is built with: "thread" for what only a race detector sees.
 */
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DECISIONS } from "./on-gpu.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const kernels = "native/cuda/kernels";

export const MUTANTS = [
  {
    name: "gemm: no barrier after the wait",
    file: `${kernels}/gemm.cuh`,
    from: "sync_block();  // everybody's copies",
    to: "// everybody's copies",
    test: "cuda_gemm_test",
    quick: true,
  },
  {
    name: "gemm: the wait is one group too weak",
    file: `${kernels}/gemm.cuh`,
    from: "cp_async_wait<T::kStages - 2>()",
    to: "cp_async_wait<T::kStages - 1>()",
    test: "cuda_gemm_test",
    quick: true,
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
    quick: true,
  },
  {
    name: "gemm: the row map is off by one",
    file: `${kernels}/gemm.cuh`,
    from: "load(args.row_map + row)",
    to: "load(args.row_map + row) + (row > 0)",
    test: "cuda_gemm_test",
    quick: true,
  },
  {
    name: "tile: a swizzle that is wrong but consistent",
    file: `${kernels}/tile.cuh`,
    from: "c ^ (r >> 1 & 3)",
    to: "c",
    test: "cuda_gemm_test",
    quick: true,
  },
  {
    name: "gemm: fragments of the weights in the wrong order",
    file: `${kernels}/gemm_mma.cuh`,
    from: "lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2",
    to: "lane % 16, k * 2 + lane / 16",
    test: "cuda_gemm_test",
    quick: true,
  },
  {
    name: "gemm: ups get the bias of their gates",
    file: `${kernels}/gemm_mma.cuh`,
    from: "bias_at(c + kGateColumns)",
    to: "bias_at(c)",
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
    file: `${kernels}/attention.cuh`,
    from: "return key < keys;",
    to: "return key <= keys;",
    test: "cuda_attention_test",
    quick: true,
  },
  {
    name: "attention: a causal query sees the key after its own",
    file: `${kernels}/attention.cuh`,
    from: "key <= first_position + row &&",
    to: "key <= first_position + row + 1 &&",
    test: "cuda_attention_test",
  },
  {
    name: "attention: a window's first block of keys is left out",
    file: `${kernels}/attention.cuh`,
    from: "(first_position - args.window + 1) / rows",
    to: "(first_position - args.window + rows) / rows",
    test: "cuda_attention_test",
  },
  {
    name: "attention: a row too many is written",
    file: `${kernels}/attention_mma.cuh`,
    from: "if (r < item.queries)",
    to: "if (r <= item.queries)",
    test: "cuda_attention_test",
    quick: true,
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
    quick: true,
  },
  {
    name: "rope: chunks are paired with their neighbours' partners",
    file: `${kernels}/rope.cuh`,
    from: "Chunk* const high = low + kHalf;",
    to: "Chunk* const high = row + head * 2 * kHalf + kHalf + (c ^ 1);",
    test: "cuda_rope_test",
    quick: true,
  },
  {
    name: "rope: a scoring row is turned as its sequence's first",
    file: `${kernels}/rope.cuh`,
    from: "args.scoring ? length - 1 :",
    to: "args.scoring ? 0 :",
    test: "cuda_rope_test",
  },
  {
    name: "compaction: the size of the old set stays",
    file: `${kernels}/compact.cuh`,
    from: "store(to.counts + kSequences, sequences);",
    to: "store(to.counts + kSequences, n);",
    test: "cuda_exit_test",
    quick: true,
  },
  {
    name: "compaction: the row map is off by one",
    file: `${kernels}/compact.cuh`,
    from: "source + r - begin",
    to: "source + r - begin + 1",
    test: "cuda_exit_test",
    quick: true,
  },
  {
    name: "compaction: a scan's scratch is written before everybody has read it",
    file: `${kernels}/compact.cuh`,
    from: "sync_block();  // the next scan",
    to: "// the next scan",
    test: "cuda_exit_test",
    under: "thread",
    quick: true,
  },
  {
    name: "decision: ties take no notice of their order",
    file: `${kernels}/decide.cuh`,
    from: "(other == low && j < i)",
    to: "(other == low && j <= i)",
    test: "cuda_exit_test",
    quick: true,
  },
  {
    name: "decision: documents are ranked before all bounds are there",
    file: `${kernels}/decide.cuh`,
    from: "sync_block();  // all bounds",
    to: "// all bounds",
    test: "cuda_exit_test",
    under: "thread",
    quick: true,
  },
  {
    name: "decision: the list's spread is taken before every warp has said its own",
    file: `${kernels}/decide.cuh`,
    from: "sync_block();  // every warp",
    to: "// every warp",
    test: "cuda_exit_test",
    under: "thread",
    quick: true,
  },
  {
    name: "decision: a budget ranks documents before all of them have their places",
    file: `${kernels}/decide.cuh`,
    from: "sync_block();  // and so are all places",
    to: "// and so are all places",
    test: "cuda_exit_test",
    under: "thread",
    quick: true,
  },
  {
    name: "decision: gains are divided while somebody still adds them",
    file: `${kernels}/decide.cuh`,
    from: "sync_block();  // nobody still adds",
    to: "// nobody still adds",
    test: "cuda_exit_test",
    under: "thread",
  },
  {
    name: "decision: under a budget whoever has stopped falls behind its list",
    file: `${kernels}/decide.cuh`,
    from: "const double before = args_.has_previous ? load(args_.level + list_) : 0;",
    to: "const double before = 0;",
    test: "cuda_exit_test",
    quick: true,
  },
  {
    name: "workspace: results are read before their copy has landed",
    file: "native/cuda/workspace.cc",
    from: "next.end = stream_.mark();",
    to: "next.end = stream_.mark() - 1;",
    test: "cuda_stream_test",
  },
  {
    name: "workspace: both batches are written in one place",
    file: "native/cuda/workspace.h",
    from: "flights_[(first_ + i) % kFlights]",
    to: "flights_[0]",
    test: "cuda_stream_test",
  },
  {
    name: "workspace: activations are given up while a batch computes there",
    file: "native/cuda/workspace.cc",
    from: "settle();  // batches under way",
    to: ";  // batches under way",
    test: "cuda_stream_test",
  },
  {
    name: "workspace: a refused batch's memory is given up before its upload has run",
    file: "native/cuda/workspace.cc",
    from: "abandon(next);",
    to: "",
    test: "cuda_stream_test",
    under: "address",
  },
  {
    name: "training: products take the next stage before it has landed",
    file: `${kernels}/training/product.cuh`,
    from: "sync_block();  // everybody's copies",
    to: "// everybody's copies",
    test: "cuda_training_test",
  },
  {
    name: "training: a tile refills the ring while the last one is still read",
    file: `${kernels}/training/product.cuh`,
    from: "sync_block();  // the next tile",
    to: "// the next tile",
    test: "cuda_training_test",
    under: "thread",
  },
  {
    name: "training: a split ends where the tokens end",
    file: `${kernels}/training/product.cuh`,
    from: "k0 + args.split < args.k ? k0 + args.split : args.k",
    to: "args.k",
    test: "cuda_training_test",
  },
  {
    name: "training: a product replaces where it should add",
    file: `${kernels}/training/product.cuh`,
    from: "before.low + out.low",
    to: "out.low",
    test: "cuda_training_test",
  },
  {
    name: "training: keys past the sequence's end have a share of its queries' gradients",
    file: `${kernels}/training/attention_backward.cuh`,
    from: "< item.keys ? s[j][e] * scale : -INFINITY",
    to: "< item.keys + 8 ? s[j][e] * scale : -INFINITY",
    test: "cuda_training_test",
    quick: true,
  },
  {
    name: "training: the gradient of the sum is left out of the keys'",
    file: `${kernels}/training/attention_backward.cuh`,
    from: "(e % 2 ? delta.high : delta.low)",
    to: "(e % 2 ? 0 : delta.low)",
    test: "cuda_training_test",
  },
  {
    name: "training: a block of queries is refilled while the last is still read",
    file: `${kernels}/training/attention_backward.cuh`,
    from: "sync_block();  // nobody reads the last block any more\n      const size_t from",
    to: "const size_t from",
    test: "cuda_training_test",
    under: "thread",
  },
  {
    name: "training: a segment's last row is left out",
    file: `${kernels}/training/rows.cuh`,
    from: "first + args.segment < args.count ? first + args.segment : args.count",
    to: "first + args.segment < args.count ? first + args.segment - 1 : args.count",
    test: "cuda_training_test",
  },
];

const TESTS = ["cuda_exit_test", "cuda_row_test", "cuda_rope_test", "cuda_gemm_test", "cuda_attention_test", "cuda_training_test"];
/** What a test is compiled together with, besides headers. */
const ALSO = {
  cuda_exit_test: DECISIONS,
  cuda_stream_test: ["native/cuda/workspace.cc"],
};
/** The whole backend but what `ALSO` has of it: compiled once, for no mutant touches it. */
const BACKEND = [
  ...["batch_memory", "cuda_backend", "device_model", "emulator_kernels", "emulator_stream", "padded_shape", "traced_stream"].map(
    (name) => `native/cuda/${name}.cc`,
  ),
  ...["checkpoint", "config", "family", "finite", "json", "mapped_file", "safetensors", "tensor"].map((name) => `native/model/${name}.cc`),
  ...["batch", "compensation", "engine", "forward", "queries"].map((name) => `native/engine/${name}.cc`),
  ...DECISIONS,
  "test/native/engine/random_model.cc",
  "test/native/model/tiny_checkpoint.cc",
];
const FLAGS = ["-std=c++17", "-O1", "-g1", "-w", "-ffp-contract=off", "-fno-strict-aliasing", "-Inative", "-Itest/native", "-Itest/native/cuda", "-Itest/native/engine", "-Itest/native/model"];
const PARTS = ["native/cuda", "native/simt", "native/engine", "native/model", "test/native"];

const scratch = mkdtempSync(join(tmpdir(), "matryoshka-mutants-"));

/** A program's status and everything it said. */
function run(command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, options);
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => {
        said += text;
      });
    child.on("error", reject).on("close", (status) => resolve({ status, said }));
  });
}

async function compile(folder, ...args) {
  const { status, said } = await run("g++", [...FLAGS, ...args], { cwd: folder });
  if (status !== 0) throw new Error(said);
}

/** What all programs share, compiled once for each sanitizer. */
const shared = new Map();
function common(under) {
  if (!shared.has(under)) shared.set(under, compileCommon(under));
  return shared.get(under);
}
async function compileCommon(under) {
  const object = (name) => join(scratch, `${name}-${under ?? "plain"}.o`);
  // The emulator's own lists stay out of the race detector's sight; see native/simt/CMakeLists.txt.
  const watched = under === "thread" ? ["-DMATRYOSHKA_SIMT_TSAN"] : [];
  const simt = ["emulator", "fiber", "memory", "warp"];
  for (const name of simt) await compile(root, "-O2", ...watched, "-c", `native/simt/${name}.cc`, "-o", object(name));
  await compile(root, ...(under ? [`-fsanitize=${under}`] : []), "-c", "test/native/check.cc", "-o", object("check"));
  return [...simt, "check"].map(object);
}

let compiledBackend;
function backend() {
  compiledBackend ??= compileBackend();
  return compiledBackend;
}
async function compileBackend() {
  const objects = [];
  for (const file of BACKEND) {
    const object = join(scratch, `${file.replaceAll("/", "-")}.o`);
    await compile(root, "-c", file, "-o", object);
    objects.push(object);
  }
  return objects;
}

/** Builds a test of the kernels in `sources` and says whether it failed, and its first complaint. */
async function outcome(sources, folder, test, under) {
  const program = join(folder, test);
  const watched = under ? [`-fsanitize=${under}`] : [];
  const whole = test === "cuda_stream_test" ? await backend() : [];
  const files = [`test/native/cuda/${test}.cc`, ...(ALSO[test] ?? []), ...whole, ...(await common(under))];
  await compile(sources, ...watched, ...files, "-o", program);
  // GCC 12's race detector cannot place its shadow memory where newer kernels randomise addresses.
  const [command, args] = under === "thread" ? ["setarch", ["-R", program]] : [program, []];
  const env = { ...process.env, TSAN_OPTIONS: "history_size=7 halt_on_error=1" };
  const { status, said } = await run(command, args, { env, timeout: 600_000 });
  const complaint = /FAIL .*\n.*|SUMMARY: .*/.exec(said)?.[0] ?? "";
  return { failed: status !== 0, complaint: complaint.replace(/\s+/g, " ").slice(0, 140) };
}

/** Whether the test failed where a bug was planted, and passed where none was. */
async function check({ name, file, from, to, test, under }) {
  const start = performance.now();
  const folder = mkdtempSync(join(scratch, "one-"));
  if (file) {
    for (const part of PARTS) cpSync(join(root, part), join(folder, part), { recursive: true });
    const source = readFileSync(join(root, file), "utf8");
    if (!source.includes(from)) throw new Error(`Mutant "${name}" no longer applies: ${file} has no ${JSON.stringify(from)}`);
    writeFileSync(join(folder, file), source.replace(from, to));
  }
  const { failed, complaint } = await outcome(file ? folder : root, folder, test, under);
  const word = file ? (failed ? "caught  " : "SURVIVED") : failed ? "FAILED  " : "passed  ";
  const seconds = ((performance.now() - start) / 1e3).toFixed(0);
  console.log(`${word} ${name}${under ? ` (under the ${under} sanitizer)` : ""}, ${seconds} s${complaint ? `: ${complaint}` : ""}`);
  rmSync(folder, { recursive: true, force: true });
  return failed === Boolean(file);
}

const asked = process.argv.slice(2);
const chosen = asked.includes("--all")
  ? MUTANTS
  : MUTANTS.filter(({ name, quick }) => (asked.length === 0 ? quick : asked.some((word) => name.includes(word))));
const clean = TESTS.map((test) => ({ name: test, test, under: "thread" }));
// The longest first, so that no core is idle at the end.
const waiting = [...clean, ...chosen.toSorted((a, b) => Number(b.under === "thread") - Number(a.under === "thread"))];
let wrong = 0;
try {
  await Promise.all([common("thread"), common(undefined)]);
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) if (!(await check(next))) wrong++;
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
console.log(`${clean.length} tests under ThreadSanitizer, ${chosen.length} of ${MUTANTS.length} mutants: ${wrong} went wrong`);
process.exitCode = wrong > 0 ? 1 : 0;
