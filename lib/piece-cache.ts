/**
 * Remembers the token ids of pieces between whitespace, in front of tokenizers that never look across whitespace.
 */

/** Pieces longer than this are rare, and a hostile document could fill the memory with them. */
export const MAX_PIECE_LENGTH = 64;

const ARENA = 1 << 15;
const LENGTH_BITS = 8;

/** Entries of one age: piece → first id in the arena << 8 | number of ids. */
class Generation {
  readonly entries = new Map<string, number>();
  readonly arena = new Int32Array(ARENA);
  used = 0;
}

/**
 * Two generations of 32,768 ids each bound it to about 5 MB. A piece found in the old generation moves to the young
 * one; a full young one becomes the old one, and what was not asked for since is forgotten.
 */
export class PieceCache {
  #young = new Generation();
  #old = new Generation();
  readonly #encode: (piece: string) => readonly number[];

  constructor(encode: (piece: string) => readonly number[]) {
    this.#encode = encode;
  }

  /** Ids of a piece, at most MAX_PIECE_LENGTH characters long. Views stay valid: an arena is only ever added to. */
  get(piece: string): Int32Array {
    const entry = this.#young.entries.get(piece);
    if (entry !== undefined) return view(this.#young, entry);
    const old = this.#old.entries.get(piece);
    const ids = old === undefined ? this.#encode(piece) : view(this.#old, old);
    return this.#add(piece, ids);
  }

  #add(piece: string, ids: ArrayLike<number>): Int32Array {
    if (ids.length >= 1 << LENGTH_BITS) return Int32Array.from(ids);
    // A piece without ids still takes room, so that the number of entries is bounded too.
    const room = Math.max(1, ids.length);
    if (this.#young.used + room > ARENA) {
      this.#old = this.#young;
      this.#young = new Generation();
    }
    const young = this.#young;
    const entry = (young.used << LENGTH_BITS) | ids.length;
    young.arena.set(ids, young.used);
    young.used += room;
    // A slice of a long text keeps the whole text alive; this copy does not.
    young.entries.set(` ${piece}`.slice(1), entry);
    return view(young, entry);
  }
}

function view({ arena }: Generation, entry: number): Int32Array {
  const start = entry >>> LENGTH_BITS;
  return arena.subarray(start, start + (entry & ((1 << LENGTH_BITS) - 1)));
}
