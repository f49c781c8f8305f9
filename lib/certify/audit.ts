/**
 * Watches a certificate in production: an anytime-valid test of "at most a share α is lost, on the mean of queries".
 *
 * A random share of queries also runs at full depth; each comparison multiplies bets against the claim. Under the claim
 * the wealth is a supermartingale, so it reaches 1/δ with probability at most δ however long one watches (Ville), and
 * it may be looked at after every query. Bets of several sizes are averaged, because the best size depends on how
 * wrong things are.
 */
import { MatryoshkaError } from "../errors.js";
import { Random } from "../eval/random.js";

/** Bets as shares of the largest one that cannot go broke, 1/α. */
const SHARES = [0.02, 0.05, 0.1, 0.2, 0.4];

export interface AuditState {
  readonly audited: number;
  /** Of them, those that lost anything. */
  readonly failures: number;
  /** Evidence against the claim: average wealth now. */
  readonly evidence: number;
  /** Largest evidence so far. */
  readonly peak: number;
  /** Whether `peak` ever reached 1/δ: the certificate no longer describes this traffic. */
  readonly alarm: boolean;
}

export class Audit {
  readonly alpha: number;
  readonly delta: number;
  readonly rate: number;
  private readonly random: Random;
  private readonly logWealth = new Float64Array(SHARES.length);
  private audited = 0;
  private failures = 0;
  private peak = 1;

  /**
   * `rate` is the share of queries to audit (default 0.02), `delta` the probability of a false alarm, ever (default
   * 0.01). Throws `ERR_INVALID_ARGUMENT` for values outside (0, 1).
   */
  constructor(options: { alpha: number; delta?: number; rate?: number; seed?: number | string }) {
    const { alpha, delta = 0.01, rate = 0.02, seed = Date.now() } = options;
    for (const [name, value] of Object.entries({ alpha, delta, rate })) {
      if (!(value > 0 && value < 1) && !(name === "rate" && value === 1)) {
        throw new MatryoshkaError("ERR_INVALID_ARGUMENT", `Expected ${name} between 0 and 1, got ${value}`);
      }
    }
    this.alpha = alpha;
    this.delta = delta;
    this.rate = rate;
    this.random = new Random(seed);
  }

  /** Whether this query is to be audited. Decide before running it, by this alone. */
  pick(): boolean {
    return this.random.uniform() < this.rate;
  }

  /** Records what an audited query lost, from 0 to 1: all or nothing where exactness was promised, a share where recall was. */
  record(loss: number): void {
    this.audited++;
    if (loss > 0) this.failures++;
    SHARES.forEach((share, i) => {
      this.logWealth[i]! += Math.log1p((share / this.alpha) * (loss - this.alpha));
    });
    this.peak = Math.max(this.peak, this.evidence());
  }

  state(): AuditState {
    const { audited, failures, peak } = this;
    return { audited, failures, evidence: this.evidence(), peak, alarm: peak >= 1 / this.delta };
  }

  private evidence(): number {
    let sum = 0;
    for (const each of this.logWealth) sum += Math.exp(each);
    return sum / SHARES.length;
  }
}
