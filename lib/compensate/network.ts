/**
 * The compensation of one exit while it is trained: what native/engine/compensation.h runs, with its gradients.
 *
 * z = tanh(W x + b), estimate = o₀ · [z, s] + c₀, u = o₁ · [z, s] + c₁ = log unit; x is the standardised scoring row, s
 * the exit's logit. With no hidden units the two outputs are affine in s.
 */
import { Random } from "../eval/random.js";

/** All weights in one array, so that the optimiser need not know what they are: W [M, H], b [M], o [2, M + 1], c [2]. */
export class CompensationNetwork {
  readonly hidden: number;
  readonly units: number;
  readonly weights: Float64Array;
  readonly gradient: Float64Array;
  readonly #z: Float64Array;
  readonly #bias: number;
  readonly #output: number;

  constructor(hidden: number, units: number, seed: number | string) {
    this.hidden = hidden;
    this.units = units;
    this.#bias = units * hidden;
    this.#output = this.#bias + units;
    const size = this.#output + 2 * (units + 1) + 2;
    this.weights = new Float64Array(size);
    this.gradient = new Float64Array(size);
    this.#z = new Float64Array(units);
    const random = new Random(`compensation ${seed}`);
    const bound = Math.sqrt(3 / hidden);
    for (let i = 0; i < this.#bias; i++) this.weights[i] = bound * (2 * random.uniform() - 1);
  }

  /** Index of o's row 0 or 1 for the logit, and of c: where a fit in closed form begins. */
  logitAt(output: 0 | 1): number {
    return this.#output + output * (this.units + 1) + this.units;
  }

  biasAt(output: 0 | 1): number {
    return this.#output + 2 * (this.units + 1) + output;
  }

  /** Writes [estimate, u] to `out`. `rows` hold x at `row · hidden`. */
  forward(rows: Float32Array, row: number, logit: number, out: Float64Array): void {
    const { units, hidden, weights } = this;
    let estimate = weights[this.biasAt(0)]! + weights[this.logitAt(0)]! * logit;
    let u = weights[this.biasAt(1)]! + weights[this.logitAt(1)]! * logit;
    for (let m = 0; m < units; m++) {
      let sum = weights[this.#bias + m]!;
      for (let i = 0, w = m * hidden, x = row * hidden; i < hidden; i++, w++, x++) sum += weights[w]! * rows[x]!;
      const z = Math.tanh(sum);
      this.#z[m] = z;
      estimate += weights[this.#output + m]! * z;
      u += weights[this.#output + units + 1 + m]! * z;
    }
    out[0] = estimate;
    out[1] = u;
  }

  /** Adds the gradient of a loss whose derivatives by this row's outputs are `byEstimate` and `byUnit`. */
  backward(rows: Float32Array, row: number, logit: number, byEstimate: number, byUnit: number): void {
    const { units, hidden, weights, gradient } = this;
    this.forward(rows, row, logit, SCRATCH);
    gradient[this.biasAt(0)]! += byEstimate;
    gradient[this.biasAt(1)]! += byUnit;
    gradient[this.logitAt(0)]! += byEstimate * logit;
    gradient[this.logitAt(1)]! += byUnit * logit;
    for (let m = 0; m < units; m++) {
      const z = this.#z[m]!;
      const first = this.#output + m;
      const second = first + units + 1;
      gradient[first]! += byEstimate * z;
      gradient[second]! += byUnit * z;
      const inner = (byEstimate * weights[first]! + byUnit * weights[second]!) * (1 - z * z);
      gradient[this.#bias + m]! += inner;
      for (let i = 0, w = m * hidden, x = row * hidden; i < hidden; i++, w++, x++) gradient[w]! += inner * rows[x]!;
    }
  }

  /** As the checkpoint stores it, with the standardisation x = (h − mean) / deviation folded in. */
  tensors(mean: Float64Array, deviation: Float64Array): CompensationTensors {
    const { units, hidden, weights } = this;
    const weight = new Float32Array(units * hidden);
    const bias = new Float32Array(units);
    for (let m = 0; m < units; m++) {
      let shift = weights[this.#bias + m]!;
      for (let i = 0; i < hidden; i++) {
        const w = weights[m * hidden + i]! / deviation[i]!;
        weight[m * hidden + i] = w;
        shift -= w * mean[i]!;
      }
      bias[m] = shift;
    }
    return {
      ...(units > 0 && { hidden: { weight, bias } }),
      output: {
        weight: Float32Array.from(weights.subarray(this.#output, this.biasAt(0))),
        bias: Float32Array.from(weights.subarray(this.biasAt(0))),
      },
    };
  }
}

const SCRATCH = new Float64Array(2);

/** Tensors of one exit: hidden.weight [M, H], hidden.bias [M], output.weight [2, M + 1], output.bias [2]. */
export interface CompensationTensors {
  readonly hidden?: { readonly weight: Float32Array; readonly bias: Float32Array };
  readonly output: { readonly weight: Float32Array; readonly bias: Float32Array };
}
