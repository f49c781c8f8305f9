/**
 * The audit never cries wolf more often than it says, however long it watches, and does cry when it should.
 */
import { describe, expect, it } from "vitest";
import { Audit } from "../lib/certify/audit.js";
import { Random } from "../lib/eval/random.js";

/** Share of audits that alarm within `queries`, a share `rate` of which lose `lost` each. */
function alarms(rate: number, queries: number, reps: number, lost = 1): number {
  const random = new Random(`audit ${rate}`);
  let alarmed = 0;
  for (let r = 0; r < reps; r++) {
    const audit = new Audit({ alpha: 0.05, delta: 0.1, seed: r });
    for (let i = 0; i < queries; i++) audit.record(random.uniform() < rate ? lost : 0);
    if (audit.state().alarm) alarmed++;
  }
  return alarmed / reps;
}

describe("the audit", () => {
  it("alarms with probability at most δ over 2,000 looks while the certificate holds at its very limit", () => {
    expect(alarms(0.05, 2000, 400)).toBeLessThanOrEqual(0.1 + 3 * Math.sqrt((0.1 * 0.9) / 400));
    expect(alarms(0.02, 2000, 200)).toBeLessThanOrEqual(0.01);
  });

  it("alarms when twice as many queries fail as promised", () => {
    expect(alarms(0.1, 500, 100)).toBeGreaterThan(0.9);
    expect(alarms(0.5, 30, 100)).toBeGreaterThan(0.95);
  });

  it("watches a promise of recall by the shares that are lost", () => {
    // Half of all queries lose a tenth of their first k: 5 % on the mean, just what was promised; then two tenths.
    expect(alarms(0.5, 2000, 100, 0.1)).toBeLessThanOrEqual(0.1);
    expect(alarms(0.5, 500, 100, 0.2)).toBeGreaterThan(0.9);
  });

  it("exposes a fixed-sample test that is looked at after every query", () => {
    // Rejecting as soon as the running rate is 1.64 deviations above α, i.e. a valid one-look test, is not valid.
    const random = new Random("peeking");
    let alarmed = 0;
    for (let r = 0; r < 200; r++) {
      let failures = 0;
      for (let n = 1; n <= 2000; n++) {
        if (random.uniform() < 0.05) failures++;
        if (n >= 30 && failures / n > 0.05 + 1.2816 * Math.sqrt((0.05 * 0.95) / n)) {
          alarmed++;
          break;
        }
      }
    }
    expect(alarmed / 200).toBeGreaterThan(0.3);
  });

  it("counts, and remembers its alarm", () => {
    const audit = new Audit({ alpha: 0.05, delta: 0.1, seed: 1 });
    expect(audit.state()).toEqual({ audited: 0, failures: 0, evidence: 1, peak: 1, alarm: false });
    for (let i = 0; i < 10; i++) audit.record(1);
    expect(audit.state()).toMatchObject({ audited: 10, failures: 10, alarm: true });
    for (let i = 0; i < 500; i++) audit.record(0);
    expect(audit.state()).toMatchObject({ audited: 510, failures: 10, alarm: true });
    expect(audit.state().evidence).toBeLessThan(audit.state().peak);
  });

  it("picks its share of queries at random, by seed", () => {
    const picks = (seed: number): boolean[] => {
      const audit = new Audit({ alpha: 0.05, rate: 0.02, seed });
      return Array.from({ length: 20_000 }, () => audit.pick());
    };
    expect(picks(1)).toEqual(picks(1));
    const count = picks(2).filter(Boolean).length;
    expect(Math.abs(count - 400)).toBeLessThan(4 * Math.sqrt(400));
  });

  it("refuses rates that mean nothing", () => {
    expect(() => new Audit({ alpha: 0 })).toThrow(/Expected alpha between 0 and 1, got 0/);
    expect(() => new Audit({ alpha: 0.05, rate: 2 })).toThrow(/Expected rate/);
    expect(() => new Audit({ alpha: 0.05, delta: 1 })).toThrow(/Expected delta/);
    expect(new Audit({ alpha: 0.05, rate: 1 }).pick()).toBe(true);
  });
});
