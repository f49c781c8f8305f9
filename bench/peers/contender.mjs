/**
 * One contender in a process of its own: `contender.mjs WHO DTYPE`. Opens it, then answers each message
 * `{ workload, size }` with one timed pass over that workload.
 */
import { cpus } from "node:os";
import { workloads } from "./workload.mjs";

const [who, dtype] = process.argv.slice(2);
const contender = await (await import(`./contenders/${who}.mjs`)).open(dtype);
const pairs = workloads();
const passes = new Map();

/** Milliseconds that the machine's CPUs were busy, all processes together. */
const busy = () => cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);

process.on("message", async ({ workload, size }) => {
  const key = `${workload} ${size}`;
  if (!passes.has(key)) passes.set(key, contender.prepare(pairs[workload], size));
  const [all, own, start] = [busy(), process.cpuUsage(), performance.now()];
  const result = await passes.get(key)();
  const { user, system } = process.cpuUsage(own);
  const cpu = (user + system) / 1e3 + (result.cpu ?? 0);
  const others = Math.max(0, busy() - all - cpu) / ((performance.now() - start) * cpus().length);
  process.send({ ...result, others });
});
process.on("disconnect", () => process.exit());
process.send({ version: contender.version });
