/**
 * The lists of a run: which of which source comes at which step, and which of its candidates.
 *
 * Every draw follows from the seed, its place in the run and the rounds mined before it, so nothing has to be saved.
 */
import { Random } from "../eval/random.js";
import { readSource, type Source, type SourceList } from "./sources.js";
import type { Candidate, ListSource, TrainConfig, TrainList } from "./types.js";

/** Throws `ERR_FILE`, `ERR_INVALID_ARGUMENT` and `ERR_EMPTY_QUERY`, naming file and line. */
export async function makeLists(config: TrainConfig, options: { readonly skipBad: boolean }): Promise<ListSource> {
  const sources: Source[] = [];
  for (const each of config.sources) sources.push(await readSource(each, config, options));
  return new Lists(config, sources);
}

/** One list of a source: where it stands in `sources` and in `lists`. */
type Place = readonly [source: number, list: number];

class Lists implements ListSource {
  readonly summary: ListSource["summary"];
  readonly #config: TrainConfig;
  readonly #sources: readonly Source[];
  readonly #order: Order;
  /** Negatives of lists that were mined, by key. */
  readonly #best = new Map<string, readonly Candidate[]>();

  constructor(config: TrainConfig, sources: readonly Source[]) {
    this.#config = config;
    this.#sources = sources;
    this.summary = sources.map(({ name, lists, candidates, skipped }) => ({
      ...{ name, lists: lists.length, candidates, skipped },
    }));
    this.#order = new Order(
      config.seed,
      sources.map(({ lists }) => lists.length),
      config.sources.map(({ weight }, s) => weight ?? sources[s]!.lists.length),
    );
  }

  draw(step: number): TrainList[] {
    const { listsPerStep, seed } = this.#config;
    return Array.from({ length: listsPerStep }, (_, i) => {
      const at = step * listsPerStep + i;
      return this.#pick(this.#order.place(at), new Random(`${seed} list ${at}`));
    });
  }

  /** The lists that come next, each once: what is mined is what is used. */
  *mining(round: number) {
    const { listsPerStep, negatives, steps } = this.#config;
    const seen = new Set<string>();
    for (let at = negatives.rounds[round]! * listsPerStep; at < steps * listsPerStep; at++) {
      if (seen.size === negatives.queries) return;
      const place = this.#order.place(at);
      const { query, negatives: some } = this.#list(place);
      const key = place.join(":");
      if (seen.has(key) || some.length === 0) continue;
      seen.add(key);
      yield { key, query, documents: some.map(({ text }) => text) };
    }
  }

  mined(key: string, scores: readonly number[]): void {
    const [source, list] = key.split(":").map(Number) as [number, number];
    const some = this.#list([source, list]).negatives;
    const order = scores.map((_, i) => i).sort((a, b) => scores[b]! - scores[a]! || a - b);
    this.#best.set(
      key,
      order.slice(0, this.#config.negatives.keep).map((i) => some[i]!),
    );
  }

  #list([source, list]: Place): SourceList {
    return this.#sources[source]!.lists[list]!;
  }

  #pick(place: Place, random: Random): TrainList {
    const { listSize, negatives } = this.#config;
    const { pool } = this.#sources[place[0]]!;
    const { query, positives, negatives: own } = this.#list(place);
    const positive = positives.length > 0 ? [positives[random.integer(positives.length)]!] : [];
    const wanted = listSize - positive.length;
    const near = random.shuffle([...(this.#best.get(place.join(":")) ?? own)]);
    // Strangers stand in for what a short list lacks, but only where a label says that they are wrong.
    const strangers =
      positive.length === 0 ? 0 : Math.max(binomial(random, wanted, negatives.random), wanted - near.length);
    const chosen = near.slice(0, wanted - strangers);
    const known = new Set([...positives, ...own].map(({ text }) => text));
    for (let tries = 0; chosen.length < wanted && tries < 4 * strangers; tries++) {
      const text = pool[random.integer(pool.length)]!;
      if (known.has(text)) continue;
      known.add(text);
      chosen.push({ text, label: 0, teachers: positive[0]!.teachers.map(() => Number.NaN) });
    }
    return { query, candidates: [...positive, ...chosen] };
  }
}

function binomial(random: Random, n: number, p: number): number {
  let count = 0;
  for (let i = 0; i < n; i++) if (random.uniform() < p) count++;
  return count;
}

/** Which list comes at which place: sources by weight, each one's lists in shuffled passes. */
class Order {
  readonly #random: Random;
  readonly #seed: number;
  readonly #sizes: readonly number[];
  readonly #weights: readonly number[];
  readonly #drawn: number[];
  /** Drawn so far, from the first place on: the same whoever asks, and when. */
  readonly #places: Place[] = [];
  /** The pass each source is in. */
  readonly #pass: number[][];

  constructor(seed: number, sizes: readonly number[], weights: readonly number[]) {
    this.#random = new Random(`${seed} sources`);
    this.#seed = seed;
    this.#sizes = sizes;
    this.#weights = weights;
    this.#drawn = sizes.map(() => 0);
    this.#pass = sizes.map(() => []);
  }

  place(at: number): Place {
    while (this.#places.length <= at) this.#places.push(this.#next());
    return this.#places[at]!;
  }

  #next(): Place {
    const source = this.#source();
    const size = this.#sizes[source]!;
    const nth = this.#drawn[source]!++;
    if (nth % size === 0) {
      const random = new Random(`${this.#seed} pass ${source} ${nth / size}`);
      this.#pass[source] = random.shuffle(Array.from({ length: size }, (_, i) => i));
    }
    return [source, this.#pass[source]![nth % size]!];
  }

  #source(): number {
    const total = this.#weights.reduce((a, b) => a + b, 0);
    let left = this.#random.uniform() * total;
    for (const [source, weight] of this.#weights.entries()) {
      if (left < weight) return source;
      left -= weight;
    }
    return this.#weights.length - 1;
  }
}
