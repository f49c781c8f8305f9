/**
 * A trajectory: what one full-depth pass over a query's list tells about every exit, so that any rule can be replayed.
 */
import { MatryoshkaError } from "../errors.js";

/** One query's list. Rows are documents in the order they were scored, columns are exits in ascending depth. */
export interface Trajectory {
  /** Query id. */
  readonly query: string;
  /** [m] document ids. */
  readonly documents: readonly string[];
  /** [m] tokens of each sequence, special tokens included. */
  readonly tokens: Int32Array;
  /** [m × exits] raw logits, row by document; the last column is full depth. NaN where a model gave none. */
  readonly scores: Float32Array;
  /**
   * [m × exits] each, where the model has compensations: what an exit says of the final score, and the unit its
   * half-widths are multiples of. In the last column the score itself, and 1.
   */
  readonly estimates?: Float32Array | undefined;
  readonly units?: Float32Array | undefined;
  /** [m] first-stage scores, where the run had them: what the confidence rule's difficulty reads. */
  readonly firstStage?: Float32Array | undefined;
  /** Text of the query, where stored: near-duplicate queries are kept on one side of a split. */
  readonly text?: string | undefined;
}

/** Trajectories of one model under one set of conditions. */
export interface TrajectorySet {
  /** Exit layers of the columns, 1-based, ascending; the last one is full depth. */
  readonly layers: readonly number[];
  readonly lists: readonly Trajectory[];
}

/** The lists of some of the set's queries, in their order. */
export function subset({ layers, lists }: TrajectorySet, queries: readonly string[]): TrajectorySet {
  const known = new Map(lists.map((list) => [list.query, list]));
  return { layers, lists: queries.map((query) => known.get(query)!) };
}

/** Throws `ERR_INVALID_ARGUMENT` unless the shapes of a list agree with `exits` and among themselves. */
export function checkTrajectory(list: Trajectory, exits: number): void {
  const m = list.documents.length;
  const wrong = (what: string, expected: number, came: number): MatryoshkaError =>
    new MatryoshkaError(
      "ERR_INVALID_ARGUMENT",
      `Trajectory of query ${JSON.stringify(list.query)}: expected ${expected} ${what} for ${m} documents and ${exits} exits, got ${came}`,
    );
  if (list.tokens.length !== m) throw wrong("token counts", m, list.tokens.length);
  if (list.scores.length !== m * exits) throw wrong("scores", m * exits, list.scores.length);
  for (const said of [list.estimates, list.units])
    if (said && said.length !== m * exits) throw wrong("estimates and units", m * exits, said.length);
  if (list.firstStage && list.firstStage.length !== m) throw wrong("first-stage scores", m, list.firstStage.length);
  if (list.firstStage?.some((score) => !Number.isFinite(score)))
    throw wrong("finite first-stage scores", m, Number.NaN);
}

/** [m × exits] row by document, from one array of logits a layer, as `Reranker.score` gives them. */
export function interleave(layers: readonly number[], logits: Readonly<Record<number, Float32Array>>): Float32Array {
  const columns = layers.map((layer) => logits[layer]!);
  const m = columns[0]?.length ?? 0;
  return Float32Array.from(
    { length: m * layers.length },
    (_, i) => columns[i % layers.length]![Math.floor(i / layers.length)]!,
  );
}

/** Column `exit` of the scores: [m] float32. */
export function column(list: Trajectory, exits: number, exit: number): Float32Array {
  return strided(list.scores, exits, exit);
}

/** What a rule reads of one exit. */
export interface ExitColumn {
  /** [m] logits, or the model's compensated estimates where it has them. */
  readonly scores: Float32Array;
  /** [m] what half-widths are multiples of; all 1 where left out. */
  readonly units?: Float32Array | undefined;
}

export function exitColumn({ scores, estimates, units }: Trajectory, exits: number, exit: number): ExitColumn {
  return {
    scores: strided(estimates ?? scores, exits, exit),
    units: units && strided(units, exits, exit),
  };
}

function strided(values: Float32Array, exits: number, exit: number): Float32Array {
  const out = new Float32Array(values.length / exits);
  for (let d = 0; d < out.length; d++) out[d] = values[d * exits + exit]!;
  return out;
}

/**
 * The order results are given in: score descending, ties by index ascending, NaN last. What "the top k of full depth"
 * means everywhere in this package.
 */
export function ranked(scores: ArrayLike<number>): Uint32Array {
  const order = Uint32Array.from({ length: scores.length }, (_, i) => i);
  return order.sort((i, j) => {
    const a = scores[i]!;
    const b = scores[j]!;
    if (a > b || Number.isNaN(b) > Number.isNaN(a)) return -1;
    if (a < b || Number.isNaN(a) > Number.isNaN(b)) return 1;
    return i - j;
  });
}
