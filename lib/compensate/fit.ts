/**
 * Trains one exit's compensation: an estimate of the final score, and how uncertain it is, document by document.
 *
 * The loss is the negative log likelihood of a Laplace distribution, |r| e^(−u) + u, of the residual r = S − estimate
 * less its mean over the list: what all documents of a query share cannot change their order. |r| is smoothed to
 * √(r² + ε²) − ε. The scale of u is free, since calibration multiplies it anyway; what it learns is who is uncertain.
 */
import { Random } from "../eval/random.js";
import { CompensationNetwork, type CompensationTensors } from "./network.js";

/** One exit's data of all lists, row by document. */
export interface ExitData {
  /** [N × H] scoring rows. */
  readonly states: Float32Array;
  /** [N] the exit's logits, and full depth's. */
  readonly logits: Float32Array;
  readonly finals: Float32Array;
  /** [lists + 1] first row of each list, then N. */
  readonly offsets: Int32Array;
  readonly hidden: number;
}

export interface FitOptions {
  /** Hidden units; 0 for affine outputs. */
  readonly units: number;
  readonly seed: number | string;
  /** Called between passes over the data: may wait, and may throw. */
  readonly between?: (pass: number) => Promise<void>;
}

export interface Fit {
  readonly tensors: CompensationTensors;
  /** Mean loss on the held-out lists, of the start (affine estimate, one unit for all) and of the best pass. */
  readonly before: number;
  readonly after: number;
}

const PASSES = 24;
const LISTS_PER_STEP = 4;
const RATE = 3e-3;
/** Every fifth list is held out: the best pass on them is kept. */
const HELD_OUT = 5;
/** ε as a share of the affine estimate's mean residual. */
const SMOOTH = 0.05;

/** `data` must hold at least two lists of two documents, all finite. Deterministic given the seed. */
export async function fitCompensationNetwork(data: ExitData, { units, seed, between }: FitOptions): Promise<Fit> {
  const lists = Array.from({ length: data.offsets.length - 1 }, (_, l) => l);
  const held = lists.filter((l) => l % HELD_OUT === 0);
  const train = lists.filter((l) => l % HELD_OUT !== 0);
  const { mean, deviation, rows } = standardised(data);
  const network = new CompensationNetwork(data.hidden, units, seed);
  const epsilon = SMOOTH * startAffine(network, data, train);
  const loss = new ListLoss(network, { ...data, states: rows }, epsilon);
  const before = loss.mean(held);
  let best = { loss: before, weights: network.weights.slice() };
  const adam = new Adam(network.weights.length);
  const steps = PASSES * Math.ceil(train.length / LISTS_PER_STEP);
  let step = 0;
  for (let pass = 0; pass < PASSES; pass++) {
    await between?.(pass);
    const order = new Random(`${seed} pass ${pass}`).shuffle([...train]);
    for (let at = 0; at < order.length; at += LISTS_PER_STEP) {
      network.gradient.fill(0);
      for (const list of order.slice(at, at + LISTS_PER_STEP)) loss.addGradient(list);
      adam.update(network.weights, network.gradient, (RATE * (1 + Math.cos((Math.PI * step++) / steps))) / 2);
    }
    const value = loss.mean(held);
    if (value < best.loss) best = { loss: value, weights: network.weights.slice() };
  }
  network.weights.set(best.weights);
  network.weights[network.biasAt(0)]! += loss.bias(train);
  return { tensors: network.tensors(mean, deviation), before, after: best.loss };
}

/** Rows to mean 0 and deviation 1 in every column. */
function standardised({ states, hidden, logits }: ExitData) {
  const n = logits.length;
  const mean = new Float64Array(hidden);
  const deviation = new Float64Array(hidden);
  states.forEach((value, i) => {
    mean[i % hidden]! += value / n;
  });
  states.forEach((value, i) => {
    deviation[i % hidden]! += (value - mean[i % hidden]!) ** 2 / n;
  });
  for (let i = 0; i < hidden; i++) deviation[i] = Math.max(1e-6, Math.sqrt(deviation[i]!));
  const rows = Float32Array.from(states, (value, i) => (value - mean[i % hidden]!) / deviation[i % hidden]!);
  return { mean, deviation, rows };
}

/** The least-squares estimate within lists, and one unit for all: their mean residual, which is returned. */
function startAffine(network: CompensationNetwork, { logits, finals, offsets }: ExitData, lists: readonly number[]) {
  let xx = 0;
  let xy = 0;
  const residuals = (slope: number): number => {
    let sum = 0;
    let n = 0;
    for (const list of lists) {
      const [first, last] = [offsets[list]!, offsets[list + 1]!];
      const x = logits.subarray(first, last);
      const y = finals.subarray(first, last);
      const [mx, my] = [average(x), average(y)];
      x.forEach((value, i) => {
        const [dx, dy] = [value - mx, y[i]! - my];
        xx += dx * dx;
        xy += dx * dy;
        sum += Math.abs(dy - slope * dx);
        n++;
      });
    }
    return sum / Math.max(1, n);
  };
  residuals(0);
  const slope = xx > 0 ? xy / xx : 0;
  const residual = Math.max(1e-6, residuals(slope));
  network.weights[network.logitAt(0)] = slope;
  network.weights[network.biasAt(1)] = Math.log(residual);
  return residual;
}

/** The loss of whole lists and its gradient. */
export class ListLoss {
  readonly #network: CompensationNetwork;
  readonly #data: ExitData;
  readonly #epsilon: number;

  /** `data.states` are what the network reads. */
  constructor(network: CompensationNetwork, data: ExitData, epsilon: number) {
    this.#network = network;
    this.#data = data;
    this.#epsilon = epsilon;
  }

  /** Mean over documents, then lists. */
  mean(lists: readonly number[]): number {
    return lists.reduce((sum, list) => sum + this.#outputs(list).loss, 0) / Math.max(1, lists.length);
  }

  /** Adds the gradient of one list's mean. */
  addGradient(list: number): void {
    const { logits, states } = this.#data;
    const { first, residuals, logUnits } = this.#outputs(list);
    const m = residuals.length;
    // The residual is centred, so each estimate moves all residuals of its list.
    const slopes = residuals.map((r, i) => (r / Math.hypot(r, this.#epsilon)) * Math.exp(-logUnits[i]!));
    const shared = average(slopes);
    residuals.forEach((r, i) => {
      const size = Math.hypot(r, this.#epsilon) - this.#epsilon;
      const byUnit = 1 - size * Math.exp(-logUnits[i]!);
      this.#network.backward(states, first + i, logits[first + i]!, (shared - slopes[i]!) / m, byUnit / m);
    });
  }

  /** Mean of S − estimate: the offset that makes estimates comparable with full depth. */
  bias(lists: readonly number[]): number {
    return average(lists.map((list) => this.#outputs(list).center));
  }

  #outputs(list: number) {
    const { logits, finals, offsets, states } = this.#data;
    const [first, last] = [offsets[list]!, offsets[list + 1]!];
    const residuals = new Float64Array(last - first);
    const logUnits = new Float64Array(last - first);
    const out = new Float64Array(2);
    for (let i = 0; i < residuals.length; i++) {
      this.#network.forward(states, first + i, logits[first + i]!, out);
      residuals[i] = finals[first + i]! - out[0]!;
      logUnits[i] = out[1]!;
    }
    const center = average(residuals);
    let loss = 0;
    for (let i = 0; i < residuals.length; i++) {
      residuals[i]! -= center;
      const size = Math.hypot(residuals[i]!, this.#epsilon) - this.#epsilon;
      loss += size * Math.exp(-logUnits[i]!) + logUnits[i]!;
    }
    return { first, residuals, logUnits, center, loss: loss / Math.max(1, residuals.length) };
  }
}

/** Kingma and Ba (2015), with their defaults. */
class Adam {
  readonly #mean: Float64Array;
  readonly #square: Float64Array;
  #step = 0;

  constructor(size: number) {
    this.#mean = new Float64Array(size);
    this.#square = new Float64Array(size);
  }

  update(weights: Float64Array, gradient: Float64Array, rate: number): void {
    this.#step++;
    const [b1, b2] = [0.9, 0.999];
    const [c1, c2] = [1 - b1 ** this.#step, 1 - b2 ** this.#step];
    for (let i = 0; i < weights.length; i++) {
      const g = gradient[i]!;
      this.#mean[i] = b1 * this.#mean[i]! + (1 - b1) * g;
      this.#square[i] = b2 * this.#square[i]! + (1 - b2) * g * g;
      weights[i]! -= (rate * (this.#mean[i]! / c1)) / (Math.sqrt(this.#square[i]! / c2) + 1e-8);
    }
  }
}

function average(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / Math.max(1, values.length);
}
