/**
 * Text to token ids: a checkpoint's tokenizer.json through @huggingface/tokenizers.
 */
import { join } from "node:path";
import * as huggingface from "@huggingface/tokenizers";
import { MatryoshkaError } from "./errors.js";
import { type PairTemplate, readPairTemplate } from "./pair-template.js";
import { MAX_PIECE_LENGTH, PieceCache } from "./piece-cache.js";
import { readJson } from "./read-json.js";
import { pieces, TokenReader, windows } from "./token-reader.js";
import { isWhitespaceLocal, type Pipeline } from "./whitespace-local.js";

/**
 * Ids are exactly those of the library, without the special tokens of the template. As there, text that spells an added
 * token, such as "[SEP]", becomes that token, and a `truncation` or `padding` block of tokenizer.json is ignored.
 *
 * One bound stands against texts that would hold the event loop for seconds: more than 4,096 characters without
 * whitespace are encoded 4,096 at a time. For a tokenizer that does not split at whitespace, so is any longer text, cut
 * before a space.
 */
export interface Tokenizer {
  readonly template: PairTemplate;
  /** One more than the largest id it can give. */
  readonly size: number;
  reader(text: string): TokenReader;
  /** All ids of a text. */
  encode(text: string): Int32Array;
}

// The library's types do not resolve under nodenext; this is all that is used of it.
interface Library {
  encode(text: string, options: { add_special_tokens: false }): { ids: number[] };
  /** Pieces by id. */
  readonly model: { readonly vocab: readonly string[] };
}
const { Tokenizer: LibraryTokenizer } = huggingface as unknown as {
  Tokenizer: new (tokenizer: object, config: object) => Library;
};

/** Builds a tokenizer from the parsed files. Empties the vocabulary in `json`, of which the library keeps a copy. */
export function buildTokenizer(json: object, config: object): Tokenizer {
  const pipeline = json as Pipeline & { readonly post_processor?: unknown };
  const template = readPairTemplate(pipeline.post_processor);
  let library: Library;
  let local: boolean;
  try {
    // The library insists on every part being there, if only as null.
    const parts = { added_tokens: [], normalizer: null, pre_tokenizer: null, ...json, decoder: null };
    library = new LibraryTokenizer(parts, config);
    // `remove_space` trims, which is a normalizer that does not keep whitespace.
    local = isWhitespaceLocal(pipeline) && !(config as { remove_space?: boolean }).remove_space;
    pipeline.model.vocab = [];
  } catch (cause) {
    throw new MatryoshkaError(
      "ERR_UNSUPPORTED_TOKENIZER",
      `Expected a tokenizer.json that @huggingface/tokenizers supports, but it says: ${(cause as Error).message}`,
      { cause },
    );
  }
  const encodeWhole = (text: string) => library.encode(text, { add_special_tokens: false }).ids;
  const cache = new PieceCache(encodeWhole);
  const encodePiece = (piece: string) => (piece.length > MAX_PIECE_LENGTH ? encodeWhole(piece) : cache.get(piece));
  const reader = (text: string) =>
    local ? new TokenReader(text, pieces, encodePiece) : new TokenReader(text, windows, encodeWhole);
  return { template, size: library.model.vocab.length, reader, encode: (text) => readAll(reader(text)) };
}

/** Reads a checkpoint's tokenizer. Throws `ERR_MODEL_INVALID`, `ERR_FILE` or `ERR_UNSUPPORTED_TOKENIZER`. */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const [json, config] = await Promise.all([
    readJson(join(directory, "tokenizer.json")),
    readJson(join(directory, "tokenizer_config.json"), {}),
  ]);
  return buildTokenizer(json, config);
}

function readAll(reader: TokenReader): Int32Array {
  let ids = new Int32Array(256);
  let count = 0;
  while (!reader.done) {
    if (count === ids.length) {
      const grown = new Int32Array(2 * count);
      grown.set(ids);
      ids = grown;
    }
    count += reader.read(ids, count, ids.length - count);
  }
  return ids.slice(0, count);
}
