/**
 * Writes the configurations of the recipe's later stages, which differ from one another in a few places: `again` trains the
 * mean of the first stages and the encoder; `a`, `b` and `c` are three runs from there or from the encoder; `d` and `e` two from
 * the mean of those, with long texts; `heads` fits the heads to the mean of these two; `f` to `j` are five runs from what that
 * gave, from the encoder and from between them. `k` and `l` are two from nearer to the encoder again and `m` goes on from their
 * mean: docs/training.md has what came of them, which is not bundled.
 *
 *   node further.mjs [DIR]
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const BOTH = {
  "squad-sent": 1.5,
  "nq-gold": 2,
  medquad: 1.5,
  "stackexchange-small": 1.5,
  scitldr: 1.5,
  pubmedqa: 1,
  "climate-fever-sent": 1.5,
  weak: 3,
  wide: 9,
};
const ENCODER = {
  wide: 12,
  weak: 5,
  "squad-sent": 1.5,
  "nq-gold": 3,
  medquad: 1.5,
  "stackexchange-small": 2,
  scitldr: 1.5,
  "climate-fever-sent": 1.5,
};
const LONG = { medquad: 2, "stackexchange-small": 2, scitldr: 4, pubmedqa: 3.5, arxiv: 5 };

const HOP = { hop: 1 };

/** Sources in `directory`, whose candidates and teacher are one run; `share` is what their weights are multiplied by. */
function sources(directory, weights, { run, suffix = "", share }) {
  return Object.entries(weights).map(([set, weight]) => {
    const path = `${directory}/${set}`;
    return { path, name: `${set}${suffix}`, run: `runs/${run}`, teachers: [`${path}/runs/${run}`], weight: weight * share };
  });
}

/**
 * `both`: where the second teacher's lists are, and their share; `encoder`, `hop` and `long`: the shares of the first teacher's;
 * `teacher`: weight, temperature and softening of both, where they are not 1.
 */
function stage({ both = ["both", 1], encoder = 1, hop = 0, long = 0, exitWeights, rank = 0.4, teacher, distill, optimizer, ...given }) {
  return {
    head: "query",
    tokenTypes: "match",
    maxQueryLength: 48,
    dtype: "bf16",
    listSize: 16,
    ...given,
    sources: [
      ...sources(both[0], BOTH, { run: "both.trec", share: both[1] }),
      ...sources("sets", ENCODER, { run: "scaled.trec", suffix: "-bi", share: encoder }),
      ...(hop > 0 ? sources("sets", HOP, { run: "scaled.trec", share: hop }) : []),
      ...(long > 0 ? sources("long", LONG, { run: "scaled.trec", suffix: "-long", share: long }) : []),
    ],
    negatives: { random: 0.05, falseNegativeMargin: 0.7 },
    loss: {
      exitWeights,
      rank,
      binary: 0.1,
      teachers: [{ weight: 1, temperature: 1, ...teacher }],
      distill: { weight: distill, temperature: 1, direction: "forward", anchors: [] },
    },
    optimizer: { warmup: 0.05, decay: "linear", ...optimizer },
    checkpoint: { every: 100 },
  };
}

const PLAIN = {
  maxLength: 192,
  listsPerStep: 16,
  turnTokens: 131072,
  exitWeights: [0.2, 0.4, 0.8, 2.5, 1.2, 3, 1.4, 3.5, 1.4, 1.2, 1.2, 3.2],
  distill: 1.2,
};
const LAST = {
  ...PLAIN,
  init: "mean-abc",
  steps: 900,
  exitWeights: [0.2, 0.4, 0.8, 2.5, 1.2, 3.5, 1.4, 3.5, 1.6, 1.6, 1.6, 3.2],
  distill: 1.4,
};
const WIDER = {
  ...PLAIN,
  both: ["both-9", 1],
  hop: 10,
  long: 0.7,
  maxLength: 256,
  turnTokens: 65536,
  exitWeights: [0.2, 0.4, 0.8, 2.5, 1.4, 3.2, 1.8, 3.5, 2, 2, 2, 3.2],
  distill: 1.4,
};
const carryFrom = (first) => Array.from({ length: 12 }, (_, exit) => (exit + 1 < first ? 0 : 0.2));
const NEARER = {
  both: ["both-10", 1.2],
  hop: 10,
  maxLength: 192,
  listsPerStep: 4,
  carry: carryFrom(9),
  exitWeights: [0.2, 0.4, 0.8, 2.5, 1.4, 4, 1.8, 3.5, 2, 2, 2, 3.2],
  rank: 0.25,
  teacher: { weight: 0.6, soften: 3 },
  distill: 1.4,
};
const stages = {
  again: {
    init: "mixed",
    seed: 12,
    maxLength: 160,
    steps: 560,
    listsPerStep: 4,
    exitWeights: [0.2, 0.4, 0.8, 3, 1.4, 4, 1.4, 4, 0.8, 0.8, 0.8, 3.5],
    distill: 1.4,
    optimizer: { encoder: 5e-5, heads: 4e-4 },
  },
  a: { ...PLAIN, init: "again/model", seed: 101, steps: 1600, optimizer: { encoder: 1e-4, heads: 5e-4 } },
  b: {
    ...PLAIN,
    init: "bge-small-en-v1.5",
    seed: 102,
    steps: 2600,
    optimizer: { encoder: 2.2e-4, heads: 2e-3, warmup: 0.06 },
  },
  c: {
    ...PLAIN,
    init: "again/model",
    seed: 103,
    steps: 1600,
    encoder: 2,
    rank: 0.25,
    optimizer: { encoder: 2e-4, heads: 8e-4 },
  },
  d: {
    ...LAST,
    seed: 201,
    both: ["both-abc", 2],
    long: 0.9,
    maxLength: 320,
    optimizer: { encoder: 6e-5, heads: 3e-4 },
  },
  e: {
    ...LAST,
    seed: 202,
    both: ["both-abc", 1.5],
    long: 0.5,
    maxLength: 256,
    rank: 0.3,
    optimizer: { encoder: 1e-4, heads: 4e-4 },
  },
  heads: {
    ...PLAIN,
    init: "mean-de",
    seed: 300,
    long: 0.6,
    maxLength: 256,
    listsPerStep: 8,
    steps: 230,
    optimizer: { encoder: 0, heads: 1.2e-3, warmup: 0.1 },
  },
  f: {
    ...WIDER,
    init: "stage9",
    seed: 401,
    hop: 6,
    long: 0.9,
    maxLength: 320,
    steps: 1500,
    optimizer: { encoder: 8e-5, heads: 3e-4 },
  },
  g: {
    ...WIDER,
    init: "stage9-80",
    seed: 402,
    encoder: 1.5,
    hop: 12,
    rank: 0.25,
    steps: 1800,
    optimizer: { encoder: 1.2e-4, heads: 5e-4 },
  },
  h: {
    ...WIDER,
    init: "bge-small-en-v1.5",
    seed: 403,
    long: 0.4,
    maxLength: 192,
    rank: 0.3,
    steps: 2600,
    optimizer: { encoder: 2.5e-4, heads: 2e-3, warmup: 0.06 },
  },
  i: {
    ...WIDER,
    init: "stage9-50",
    seed: 404,
    encoder: 1.5,
    hop: 12,
    rank: 0.2,
    steps: 2000,
    optimizer: { encoder: 1.8e-4, heads: 8e-4 },
  },
  j: {
    ...WIDER,
    init: "stage9",
    seed: 405,
    encoder: 2,
    hop: 12,
    rank: 0.1,
    steps: 1600,
    optimizer: { encoder: 1.5e-4, heads: 5e-4 },
  },
  k: { ...NEARER, init: "tenth-70", seed: 61, hop: 8, steps: 800, optimizer: { encoder: 7e-5, heads: 3.5e-4 } },
  l: {
    ...NEARER,
    init: "tenth-60",
    seed: 62,
    both: ["both-10", 1],
    encoder: 1.3,
    maxLength: 160,
    steps: 850,
    optimizer: { encoder: 9e-5, heads: 4.5e-4 },
  },
  m: {
    ...NEARER,
    init: "mean-kl",
    seed: 63,
    carry: carryFrom(7),
    steps: 500,
    exitWeights: [0.2, 0.4, 0.8, 3, 2, 6, 3, 5, 1.5, 1.2, 1.2, 3.5],
    distill: 1.8,
    optimizer: { encoder: 3e-5, heads: 1.5e-4 },
  },
};

const [, , directory = "."] = process.argv;
for (const [name, given] of Object.entries(stages))
  writeFileSync(join(directory, `${name}.json`), `${JSON.stringify(stage(given), undefined, 1)}\n`);
