/**
 * Whether the engine stops the documents that the replay of stored scores says it should, on real data: every exit layer
 * and every score, bit for bit. On the first set also the wall clock, each query at full depth, under the certified rule and
 * under a budget in turn, beside the compute that was saved; and what the machinery costs where nobody stops.
 *
 * Run: npm run bench:agreement [-- --dtype f32] [--store DIR] [--set NAME …]. Exits with 1 where anything differs. Writes
 * bench/results/agreement.json.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { replay } from "../dist/exit/replay.js";
import type { Trajectory } from "../dist/exit/trajectory.js";
import { planExit } from "../dist/exit-plan.js";
import { fingerprint } from "../dist/fingerprint.js";
import type { Exit, RerankResponse } from "../dist/index.js";
import { readCertificates } from "../dist/model-info.js";
import { machine } from "./machine.js";
import { chosenSets, evaluationSet, MAX_LENGTH, type SetName, scored, withModel } from "./sets.js";

const CERTIFIED: Exit = { type: "top-k", k: 10, alpha: 0.05 };
/** Stops more documents, in short lists too. */
const THRIFTY: Exit = { type: "budget", k: 10, compute: 0.45 };
const COMPARED = ["trec-dl-21", "wikiqa", "nfcorpus", "scifact"] as const satisfies readonly SetName[];
const TIMED = COMPARED[0];

const { values } = parseArgs({
  options: {
    dtype: { type: "string", default: "f32" },
    store: { type: "string" },
    set: { type: "string", multiple: true },
  },
});
await withModel(values, async (reranker, dtype) => {
  const { info } = reranker;
  const conditions = { dtype, maxLength: MAX_LENGTH };
  const print = await fingerprint(info.directory, conditions);
  const certificates = await readCertificates(info.directory);
  const about = machine();
  /** The certified rule's exits, all peeked at; but no sure thing is surer than 1, and nobody stops. */
  const { rule: certified } = planExit(CERTIFIED, certificates, { ...print, candidates: 100 });
  const peeked = certified.type === "top-k" ? certified.exits.map(({ layer }) => layer) : [];
  const nobody: Exit = { type: "confidence", thresholds: Object.fromEntries(peeked.map((layer) => [layer, 1])) };
  console.log(`${about.line}\n${info.backend}, k = 10, α = 5 %, δ = 5 %, up to ${MAX_LENGTH} tokens, BM25's top 100`);

  /** Documents whose exit or logit is not the replay's. */
  const differing = (exit: Exit, list: Trajectory, { results }: RerankResponse): number => {
    const { rule } = planExit(exit, certificates, { ...print, candidates: list.documents.length });
    const { exitLayers, scores } = replay(rule, list, info.exitLayers);
    return results.filter(({ index, exitLayer, logit }) => exitLayer !== exitLayers[index] || logit !== scores[index])
      .length;
  };

  const sets: { set: string; exit: string; pairs: number; stopped: number; differing: number; compute: number }[] = [];
  /** Engine's milliseconds over all queries of the timed set at full depth, the share of them by exit, and what peeking costs. */
  let clock: { full: number; wall: Record<string, number>; peeked: number[]; overhead: number } | undefined;
  for (const name of chosenSets(COMPARED, values.set)) {
    const { lists } = await evaluationSet(name);
    const set = await scored(reranker, lists, `${name}-${dtype}`, conditions, values.store);
    const exits: readonly Exit[] = name === TIMED ? [CERTIFIED, THRIFTY] : [THRIFTY];
    const tally = exits.map(() => ({ pairs: 0, stopped: 0, differing: 0, compute: 0 }));
    const times = { full: 0, byExit: exits.map(() => 0), overhead: 0 };
    for (const [q, { text, documents }] of lists.entries()) {
      const texts = documents.map((document) => document.text);
      const run = (exit: Exit) => reranker.rerank(text, texts, { exit, maxLength: MAX_LENGTH });
      if (name === TIMED) {
        const full = (await run({ type: "full" })).stats.milliseconds.engine;
        times.full += full;
        // Every third query says enough about the machinery alone.
        if (q % 3 === 0)
          times.overhead += ((await run(nobody)).stats.milliseconds.engine / full - 1) / Math.ceil(lists.length / 3);
      }
      for (const [i, exit] of exits.entries()) {
        const response = await run(exit);
        const own = tally[i]!;
        own.pairs += texts.length;
        own.stopped += response.results.filter(({ exact }) => !exact).length;
        own.differing += differing(exit, set.lists[q]!, response);
        own.compute += response.stats.computeFraction / lists.length;
        times.byExit[i]! += response.stats.milliseconds.engine;
      }
    }
    exits.forEach((exit, i) => {
      sets.push({ set: name, exit: exit.type, ...tally[i]! });
      const { pairs, stopped, differing: wrong, compute } = tally[i]!;
      console.log(
        `${name.padEnd(12)} ${exit.type.padEnd(8)} ${pairs} pairs, ${stopped} stopped early, compute ${compute.toFixed(3)}, ${wrong} differ from the replay`,
      );
    });
    if (name !== TIMED) continue;
    const wall = Object.fromEntries(exits.map(({ type }, i) => [type, times.byExit[i]! / times.full]));
    clock = { full: times.full, wall, peeked, overhead: times.overhead };
    exits.forEach(({ type }, i) => {
      const { compute } = tally[i]!;
      console.log(
        `${TIMED}: ${type} takes ${wall[type]!.toFixed(3)} of full depth's time for ${compute.toFixed(3)} of its compute: ${(compute / wall[type]!).toFixed(3)} of the ideal speed-up`,
      );
    });
    console.log(
      `${TIMED}: the ${peeked.length} exits of the certified rule peeked at, nobody stopped: ${(100 * times.overhead).toFixed(1)} % more time`,
    );
  }
  writeFileSync(
    new URL("results/agreement.json", import.meta.url),
    `${JSON.stringify({ machine: about, date: new Date().toISOString().slice(0, 10), dtype, maxLength: MAX_LENGTH, sets, clock }, undefined, 1)}\n`,
  );
  process.exitCode = sets.some((each) => each.differing > 0) ? 1 : 0;
});
