/**
 * A certificate says what it promises in one sentence, and is void, aloud, wherever anything it depends on differs.
 */
import { describe, expect, it } from "vitest";
import {
  type Certificate,
  parseCertificates,
  resolveCertificate,
  statement,
  type Wanted,
} from "../lib/certify/certificate.js";
import { planExit } from "../lib/exit-plan.js";

const certificate: Certificate = {
  kind: "exact-top-k",
  k: 10,
  alpha: 0.05,
  delta: 0.05,
  scale: 1.5,
  widths: [{ layer: 6, slope: 1, offset: 0, width: 0.5, trend: 0.1 }],
  n: 500,
  dtype: "f32",
  modelHash: "m1",
  tokenizerHash: "t1",
  maxLength: 256,
  candidates: { min: 20, max: 100 },
  createdFrom: "nfcorpus train, bm25",
  computeFraction: 0.61,
};
const wanted: Wanted = { k: 10, dtype: "f32", modelHash: "m1", tokenizerHash: "t1", maxLength: 256, candidates: 100 };
const why = (certificates: Certificate[], request: Wanted): string => {
  const resolution = resolveCertificate(certificates, request);
  return "void" in resolution ? resolution.void.join("\n") : "fits";
};

describe("a certificate", () => {
  it("states its promise in plain English, with every number it rests on", () => {
    expect(statement(certificate)).toBe(
      "For queries like the 500 it was calibrated on, the first 10 results are exactly what full depth gives, except " +
        "in at most 5 % of queries, with 95 % confidence (α = 0.05, δ = 0.05, n = 500, f32, sequences up to 256 tokens, " +
        "lists of 20 to 100 candidates).",
    );
    expect(statement({ ...certificate, k: 1, delta: null, candidates: { min: 100, max: 100 } })).toMatch(
      /the first result is exactly .* on average over calibrations .*δ = none.* lists of 100 candidates/,
    );
  });

  it("of recall states what may be lost, and from what", () => {
    expect(statement({ ...certificate, kind: "recall-top-k" })).toBe(
      "For queries like the 500 it was calibrated on, at least 95 % of full depth's first 10 results, on the mean of queries, " +
        "come first, in its order, with its scores, with 95 % confidence (α = 0.05, δ = 0.05, n = 500, f32, sequences up " +
        "to 256 tokens, lists of 20 to 100 candidates).",
    );
  });

  it("of recall serves nobody who asks for exactness, or for another k; an exact one serves both", () => {
    const recall: Certificate = { ...certificate, kind: "recall-top-k", alpha: 0.02 };
    expect(why([recall], wanted)).toMatch(
      /Certificate for recall at k = 10, α = 0.02: it promises most of the first k, the request asks for all/,
    );
    const asked: Wanted = { ...wanted, kind: "recall-top-k" };
    const chosen = (request: Partial<Wanted>) => {
      const resolution = resolveCertificate([certificate, recall], { ...asked, ...request });
      return "void" in resolution ? resolution.void : resolution.certificate.kind;
    };
    expect(why([recall], { ...asked, alpha: 0.01 })).toMatch(/it allows 0.02 of the first k to be lost/);
    for (const k of [9, 11]) expect(why([recall], { ...asked, k })).toMatch(new RegExp(`the request asks for ${k}`));
    expect(chosen({})).toBe("recall-top-k");
    expect(chosen({ k: 5 })).toBe("exact-top-k");
    expect(chosen({ dtype: "bf16" })).toHaveLength(2);
  });

  it("gives the rule that keeps it", () => {
    expect(resolveCertificate([certificate], wanted)).toEqual({
      certificate,
      rule: { type: "top-k", k: 10, scale: 1.5, exits: certificate.widths },
    });
  });

  it("covers smaller k, and lists that cannot lose anybody", () => {
    expect(why([certificate], { ...wanted, k: 3 })).toBe("fits");
    expect(why([certificate], { ...wanted, candidates: 10 })).toBe("fits");
  });

  it("is void for anything it was not made for, and says what", () => {
    const reasons: [Partial<Wanted>, RegExp][] = [
      [{ k: 11 }, /k = 10, α = 0.05: it covers the first 10 results, the request asks for 11/],
      [{ alpha: 0.01 }, /it allows 0.05 of queries to fail, the request at most 0.01/],
      [{ dtype: "bf16" }, /made with dtype f32, this run has bf16/],
      [{ modelHash: "m2" }, /made with model m1, this run has m2/],
      [{ tokenizerHash: "t2" }, /made with tokenizer t1, this run has t2/],
      [{ maxLength: 512 }, /made with maximum length 256, this run has 512/],
      [{ candidates: 101 }, /made on lists of 20 to 100 candidates, this one has 101/],
      [{ candidates: 19 }, /made on lists of 20 to 100 candidates, this one has 19/],
      [{ group: "legal" }, /it knows no group legal/],
    ];
    for (const [change, reason] of reasons) expect(why([certificate], { ...wanted, ...change })).toMatch(reason);
    expect(why([], wanted)).toMatch(/no certificate: run `matryoshka calibrate`/);
  });

  it("is chosen for the nearest k, then for the cheapest promise that suffices", () => {
    const of = (k: number, alpha: number): Certificate => ({ ...certificate, k, alpha });
    const all = [of(20, 0.1), of(10, 0.01), of(10, 0.05), of(10, 0.1), of(5, 0.1)];
    const chosen = (request: Partial<Wanted>): [number, number] => {
      const resolution = resolveCertificate(all, { ...wanted, ...request });
      if ("void" in resolution) throw new Error(resolution.void.join("\n"));
      return [resolution.certificate.k, resolution.certificate.alpha];
    };
    expect(chosen({})).toEqual([10, 0.1]);
    expect(chosen({ alpha: 0.07 })).toEqual([10, 0.05]);
    expect(chosen({ k: 4 })).toEqual([5, 0.1]);
    expect(chosen({ k: 11 })).toEqual([20, 0.1]);
  });

  it("uses a group's own scale, and is void for a group with too few queries", () => {
    const grouped = { ...certificate, groups: { medical: { n: 200, scale: 2.5 }, rare: { n: 7, scale: null } } };
    expect(resolveCertificate([grouped], { ...wanted, group: "medical" })).toMatchObject({ rule: { scale: 2.5 } });
    expect(why([grouped], { ...wanted, group: "rare" })).toMatch(/group rare had only 7 calibration queries/);
  });

  it("survives JSON, and is refused field by field where it is damaged", () => {
    const json: unknown = JSON.parse(JSON.stringify([certificate]));
    expect(parseCertificates(json, "matryoshka.json")).toEqual([certificate]);
    expect(parseCertificates(undefined, "matryoshka.json")).toEqual([]);
    const damage: [string, unknown][] = [
      ["groups", { medical: { n: 200, scale: "0.8" } }],
      ["groups", { medical: { n: 200, scale: -1 } }],
      ["groups", null],
      ["kind", "exact"],
      ["k", 0],
      ["k", 1.5],
      ["alpha", -1],
      ["delta", "0.05"],
      ["scale", null],
      ["scale", -1],
      ["n", 0],
      ["maxLength", "256"],
      ["modelHash", 1],
      ["dtype", undefined],
      ["candidates", { min: 5, max: 2 }],
      ["candidates", null],
      ["widths", [{ layer: 6, slope: 1, offset: 0, width: 0, trend: 0 }]],
      ["widths", [null]],
      ["widths", {}],
      ["createdFrom", 3],
      ["frontier", 7],
      ["frontier", [{ stake: "x", compute: 0.5, loss: 0 }]],
      ["frontier", [{ stake: 0.1, compute: 0.5, loss: 0, bound: 2 }]],
    ];
    for (const [field, value] of damage) {
      expect(() => parseCertificates([{ ...certificate, [field]: value }], "matryoshka.json"), field).toThrow(
        expect.objectContaining({
          code: "ERR_CONFIG_INVALID",
          message: expect.stringMatching(
            new RegExp(`^matryoshka.json: expected .* at certificates\\[0\\]\\.${field}, got`),
          ),
        }),
      );
    }
    expect(() => parseCertificates({}, "f")).toThrow(/expected a list at certificates/);
    expect(() => parseCertificates([1], "f")).toThrow(/expected an object at certificates\[0\]/);
  });
});

describe("confidence", () => {
  const exits = (certificates: Certificate[], layers: number[], request: Partial<Wanted> = {}) => {
    const thresholds = Object.fromEntries(layers.map((layer) => [layer, 0.9]));
    const { rule } = planExit({ type: "confidence", thresholds }, certificates, { ...wanted, ...request });
    return rule.type === "confidence" ? rule.exits.map(({ slope, offset }) => [slope, offset]) : [];
  };
  const fitted = {
    ...certificate,
    widths: [4, 6].map((layer) => ({ layer, slope: 2, offset: 1, width: 1, trend: 0 })),
  };

  it("compensates scores by a certificate of this model that knows all layers asked for, or not at all", () => {
    expect(exits([certificate, fitted], [4, 6])).toEqual([
      [2, 1],
      [2, 1],
    ]);
    expect(exits([fitted], [4, 8])).toEqual([
      [1, 0],
      [1, 0],
    ]);
    expect(exits([fitted], [4], { modelHash: "m2" })).toEqual([[1, 0]]);
    expect(exits([fitted], [4], { dtype: "bf16" })).toEqual([[1, 0]]);
  });
});
