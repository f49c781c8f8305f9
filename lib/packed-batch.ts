/**
 * Sequences end to end in growing buffers, without padding: what the engine takes.
 */
import type { NativeBatch } from "./native-engine.js";

function grown(array: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(Math.max(length, 2 * array.length));
  copy.set(array);
  return copy;
}

/**
 * Ids are written at the end of `tokenIds`, in the room that `reserve` made, and become a sequence by `endSequence`.
 * `clear` keeps the buffers for the next batch.
 */
export class PackedBatch {
  /** [T] and room for the sequence being written. Replaced by `reserve`. */
  tokenIds = new Int32Array(1024);
  typeIds = new Int32Array(1024);
  /** Tokens of finished sequences: where the next one begins. */
  tokens = 0;
  /** [n] what each sequence belongs to, e.g. the document's index. */
  owners: number[] = [];
  #cuSeqlens: number[] = [0];
  #listOffsets: number[] = [0];

  get sequences(): number {
    return this.owners.length;
  }

  /** Makes room for a sequence of up to `length` tokens. */
  reserve(length: number): void {
    const needed = this.tokens + length;
    if (needed <= this.tokenIds.length) return;
    this.tokenIds = grown(this.tokenIds, needed);
    this.typeIds = grown(this.typeIds, needed);
  }

  /** The `length` tokens after the last sequence become a sequence of the current list. */
  endSequence(length: number, owner: number): void {
    this.tokens += length;
    this.#cuSeqlens.push(this.tokens);
    this.owners.push(owner);
  }

  /** The next sequence belongs to another query. */
  endList(): void {
    if (this.sequences > this.#listOffsets.at(-1)!) this.#listOffsets.push(this.sequences);
  }

  /** Length of a sequence in tokens. */
  lengthOf(sequence: number): number {
    return this.#cuSeqlens[sequence + 1]! - this.#cuSeqlens[sequence]!;
  }

  /** For the engine, which copies on submit; `typed` where the model knows token types. */
  view(typed: boolean): NativeBatch {
    this.endList();
    return {
      tokenIds: this.tokenIds.subarray(0, this.tokens),
      typeIds: typed ? this.typeIds.subarray(0, this.tokens) : undefined,
      cuSeqlens: Int32Array.from(this.#cuSeqlens),
      listOffsets: Int32Array.from(this.#listOffsets),
    };
  }

  clear(): void {
    this.tokens = 0;
    this.owners = [];
    this.#cuSeqlens = [0];
    this.#listOffsets = [0];
  }
}
