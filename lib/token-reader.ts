/**
 * Reads a text's token ids from its start, a bounded step at a time.
 */

/** Characters given to the tokenizer at once. The library's time and memory per call grow with it. */
const WINDOW = 4096;

/** How a text is cut into what the tokenizer is asked at once. */
interface Cutter {
  /** First character of the next stretch, at or after `at`. */
  begin(text: string, at: number): number;
  /** Where the stretch that begins at `start` ends. */
  end(text: string, start: number): number;
  /** A stretch as the tokenizer gets it. */
  slice(text: string, start: number, end: number): string;
}

const isSpace = (code: number) => code === 32 || code === 10 || code === 9 || code === 13;

/** Keeps a surrogate pair together. */
function boundary(text: string, end: number): number {
  const code = text.charCodeAt(end);
  return code >= 0xdc00 && code <= 0xdfff ? end - 1 : end;
}

/** Pieces between ASCII whitespace, for tokenizers that are whitespace-local; a longer piece in windows. */
export const pieces: Cutter = {
  begin(text, at) {
    while (at < text.length && isSpace(text.charCodeAt(at))) at++;
    return at;
  },
  end(text, start) {
    const limit = Math.min(text.length, start + WINDOW);
    let end = start;
    while (end < limit && !isSpace(text.charCodeAt(end))) end++;
    return end < limit ? end : boundary(text, end);
  },
  // With the whitespace beside it: the library takes a text whose normal form spells an added token for that token, so
  // a piece must not stand alone where it does not in the text.
  slice: (text, start, end) =>
    text.slice(isSpace(text.charCodeAt(start - 1)) ? start - 1 : start, isSpace(text.charCodeAt(end)) ? end + 1 : end),
};

/** Windows that end before a space where they can, since for the other tokenizers a space belongs to the next token. */
export const windows: Cutter = {
  begin: (_text, at) => at,
  end(text, start) {
    if (text.length - start <= WINDOW) return text.length;
    const space = text.slice(start, start + WINDOW + 1).lastIndexOf(" ");
    return space > 0 ? start + space : boundary(text, start + WINDOW);
  },
  slice: (text, start, end) => text.slice(start, end),
};

export class TokenReader {
  #next: number;
  #ids: ArrayLike<number> = [];
  #taken = 0;
  readonly #text: string;
  readonly #cutter: Cutter;
  readonly #encode: (stretch: string) => ArrayLike<number>;

  constructor(text: string, cutter: Cutter, encode: (stretch: string) => ArrayLike<number>) {
    this.#text = text;
    this.#cutter = cutter;
    this.#encode = encode;
    this.#next = cutter.begin(text, 0);
  }

  /** True once every id has been read. */
  get done(): boolean {
    return this.#next === this.#text.length && this.#taken === this.#ids.length;
  }

  /**
   * Writes up to `max` of the next ids to out[at…] and returns how many. Looks at little more than one window of text,
   * so it may return fewer than `max`, even 0, before `done`.
   */
  read(out: Int32Array, at: number, max: number): number {
    const stop = this.#next + WINDOW;
    let written = 0;
    for (;;) {
      while (written < max && this.#taken < this.#ids.length) out[at + written++] = this.#ids[this.#taken++]!;
      if (written === max || this.#next >= stop || !this.#advance()) return written;
    }
  }

  /** Whether an id is waiting. Looks at little more than one window of text: false before `done` means ask again. */
  peek(): boolean {
    const stop = this.#next + WINDOW;
    while (this.#taken === this.#ids.length) if (this.#next >= stop || !this.#advance()) return false;
    return true;
  }

  /** Tokenizes the next stretch, once the last one's ids are taken. */
  #advance(): boolean {
    if (this.#next === this.#text.length) return false;
    const end = this.#cutter.end(this.#text, this.#next);
    this.#ids = this.#encode(this.#cutter.slice(this.#text, this.#next, end));
    this.#taken = 0;
    this.#next = this.#cutter.begin(this.#text, end);
    return true;
  }
}
