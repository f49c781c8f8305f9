/**
 * Scored batches become a ranking, whatever the numbers.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Collector } from "../lib/collector.js";
import { stopFlops } from "../lib/exit/cost.js";
import { checkRerank } from "../lib/options.js";
import { rank } from "../lib/rank.js";

const model = { layers: 2, hidden: 8, compensated: false, intermediate: 16, exitLayers: [1, 2] };
const options = checkRerank({ activation: "none" }, { maxTokens: 512, exitLayers: [1, 2] });

/** What one batch of full-depth scores leaves; `owners` says whose sequences they are. */
function collect(logits: readonly number[], owners: readonly number[] = [...logits.keys()]): Collector {
  const collector = new Collector(model, new Set(owners).size);
  collector.add({
    owners,
    lengths: owners.map(() => 10),
    result: {
      logits: Float32Array.from(logits.flatMap((logit) => [-logit, logit])),
      exitLayers: new Uint8Array(owners.length).fill(2),
      partial: false,
      milliseconds: 1,
    },
  });
  return collector;
}

describe("a ranking", () => {
  it("is by descending logit, ties in the order of the input, what is not a number last", () => {
    const number = fc.oneof(
      fc.float(),
      fc.constantFrom(0, -0, 1, 1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
    );
    fc.assert(
      fc.property(fc.array(number, { maxLength: 40 }), (logits) => {
        const documents = logits.map(String);
        const ranked = rank(documents, collect(logits), options, { type: "full" }, 2);
        const numbers = ranked.filter(({ logit }) => !Number.isNaN(logit));
        expect(ranked.slice(0, numbers.length)).toEqual(numbers);
        expect(new Set(ranked.map(({ index }) => index)).size).toBe(logits.length);
        for (const part of [numbers, ranked.slice(numbers.length)])
          for (const [i, { logit, index }] of part.entries()) {
            const before = part[i - 1];
            if (!before) continue;
            expect(before.logit < logit).toBe(false);
            if (!(before.logit > logit)) expect(before.index).toBeLessThan(index);
          }
      }),
    );
  });

  it("takes a document's best window, at each exit by itself", () => {
    const collector = collect([1, 5, 3, 4], [0, 0, 0, 1]);
    expect([collector.logit(0, 1), collector.logit(0, 2), collector.logit(1, 2)]).toEqual([-1, 5, 4]);
    const { sequences, tokens, exitHistogram } = collector.stats({ tokenize: 0, total: 0 }, 0);
    expect({ sequences, tokens, exitHistogram }).toEqual({ sequences: 4, tokens: 40, exitHistogram: { 2: 2 } });
  });
});

describe("a document whose windows a deadline parts", () => {
  it("is judged where all of its windows have scored, and is not exact", () => {
    const collector = new Collector(model, 1);
    const add = (logits: readonly number[], layer: number) =>
      collector.add({
        owners: [0],
        lengths: [10],
        result: {
          ...{ logits: Float32Array.from(logits), exitLayers: Uint8Array.of(layer) },
          ...{ partial: layer < 2, milliseconds: 1 },
        },
      });
    add([-3, -4], 2);
    add([1, Number.NaN], 1);
    const [result] = rank(["two windows"], collector, options, { type: "full" }, 2);
    expect(result).toMatchObject({ logit: 1, exitLayer: 1, exact: false });
    expect(collector.stats({ tokenize: 0, total: 0 }, 0)).toMatchObject({ partial: true, exitHistogram: { 1: 1 } });
  });
});

describe("the compute fraction", () => {
  it("is what the layers cost over what full depth costs, each with its last layer only peeked at", () => {
    const collector = new Collector(model, 2);
    const batch = (owner: number, length: number, layer: number) =>
      collector.add({
        owners: [owner],
        lengths: [length],
        result: { logits: Float32Array.of(0, 0), exitLayers: Uint8Array.of(layer), partial: false, milliseconds: 0 },
      });
    batch(0, 10, 1);
    batch(1, 30, 2);
    const peek = (n: number) => 4 * n * 64 + 4 * 64 + 4 * 8 * n + 4 * 8 * 16;
    const block = (n: number) => 2 * n * (4 * 64 + 2 * 8 * 16) + 4 * 8 * n * n;
    expect(stopFlops(model, 10, 2)).toBe(block(10) + peek(10));
    const fraction = (peek(10) + block(30) + peek(30)) / (block(10) + peek(10) + block(30) + peek(30));
    expect(collector.stats({ tokenize: 0, total: 0 }, 0).computeFraction).toBeCloseTo(fraction, 12);
  });
});
