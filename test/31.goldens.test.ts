/**
 * Every layer's score equals the reference implementation's, in single precision and in double.
 */
import { describe, expect, it } from "vitest";
import { Reranker } from "../lib/index.js";
import { goldens } from "./fixtures/shared.js";

/**
 * Of a layer's largest score. A score near zero is a difference of larger terms, and the reference rounds those to
 * single precision: relative to itself, exact arithmetic is 2e-5 away from it in the sets at hand.
 */
const TOLERANCE = 1e-5;

describe("golden scores", () => {
  for (const golden of goldens()) {
    for (const device of ["cpu", "reference"] as const) {
      it(`of ${golden.name} hold on device ${device}`, async () => {
        await using reranker = await Reranker.open(golden.directory, { device, dtype: "f32" });
        const pairs = golden.cases.map(({ query, passage }) => ({ query, document: passage }));
        const { layers, logits } = await reranker.score(pairs, { maxLength: golden.max_length });
        for (const { scores } of golden.cases) expect(layers.map(String)).toEqual(Object.keys(scores));
        let worst = 0;
        for (const layer of layers) {
          const expected = golden.cases.map(({ scores }) => scores[layer]!);
          const scale = Math.max(...expected.map(Math.abs));
          worst = Math.max(worst, ...expected.map((score, i) => Math.abs(logits[layer]![i]! - score) / scale));
        }
        console.log(`${golden.name} on ${device}: largest relative difference ${worst.toExponential(1)}`);
        expect(worst).toBeLessThanOrEqual(TOLERANCE);
      });
    }
  }

  if (goldens().length === 0) it.skip("need a folder of golden sets");
});
