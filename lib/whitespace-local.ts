/**
 * Decides whether a tokenizer treats the pieces between whitespace independently: ids(a + " " + b) = ids(a) ids(b).
 */

/** What is read of tokenizer.json here. Fields that are absent count as null. */
export interface Pipeline {
  readonly normalizer?: Step | null;
  readonly pre_tokenizer?: Step | null;
  readonly model: {
    readonly type?: string;
    readonly fuse_unk?: boolean;
    vocab: Readonly<Record<string, number>> | ReadonlyArray<readonly [string, number]>;
  };
  readonly added_tokens?: ReadonlyArray<{
    readonly content: string;
    readonly normalized?: boolean;
    readonly special?: boolean;
  }>;
}

interface Step {
  readonly type: string;
  readonly normalizers?: readonly Step[];
  readonly pretokenizers?: readonly Step[];
  readonly pattern?: { readonly Regex?: string };
  readonly content?: string;
  readonly prepend_scheme?: string;
  readonly replacement?: string;
}

// These keep whitespace, which neither composes nor decomposes with its neighbours in any Unicode normal form,
// and is neither cased nor case-ignorable, so that lowercasing (final sigma) looks no further than it.
const LOCAL_NORMALIZERS = new Set([
  "BertNormalizer",
  "Lowercase",
  "NFC",
  "NFD",
  "NFKC",
  "NFKD",
  "Precompiled",
  "StripAccents",
]);

const SPLITTERS = new Set(["BertPreTokenizer", "Whitespace", "WhitespaceSplit"]);

function localNormalizer(step: Step | null | undefined): boolean {
  if (!step) return true;
  if (step.type === "Sequence") return (step.normalizers ?? []).every(localNormalizer);
  // Runs of spaces to one: the splitter that follows drops them all.
  if (step.type === "Replace") return step.pattern?.Regex === " {2,}" && step.content === " ";
  return LOCAL_NORMALIZERS.has(step.type);
}

/** The pre-tokenizer's steps, outermost first. */
function flatten(step: Step | null | undefined): readonly Step[] {
  if (!step) return [];
  return step.type === "Sequence" ? (step.pretokenizers ?? []).flatMap(flatten) : [step];
}

/**
 * True only where it can be shown. The text is split at whitespace before anything else looks at it, no step depends on
 * where in the text a piece stands, no added token holds whitespace, and the model joins nothing across pieces.
 */
export function isWhitespaceLocal({ normalizer, pre_tokenizer, model, added_tokens = [] }: Pipeline): boolean {
  const steps = flatten(pre_tokenizer);
  // With the scheme "first", a piece's ids depend on its being the first one.
  const placeless = steps.every(({ type, prepend_scheme }) => type !== "Metaspace" || prepend_scheme !== "first");
  // A normalizer could bring whitespace into a token that is matched after it, but none does so to ASCII.
  const addedTokensFit = added_tokens.every(({ content, special, normalized = !special }) =>
    normalized ? /^[\x21-\x7e]+$/.test(content) : /^\S+$/.test(content),
  );
  return (
    localNormalizer(normalizer) && SPLITTERS.has(steps[0]?.type ?? "") && placeless && addedTokensFit && joinsNothing()
  );

  function joinsNothing(): boolean {
    if (model.type === "WordPiece") return !model.fuse_unk;
    if (model.type !== "Unigram" || !Array.isArray(model.vocab)) return false;
    // Unigram fuses neighbouring unknown characters, also of different pieces, unless a known piece stands between:
    // the mark that begins every piece.
    const mark = steps.find(({ type }) => type === "Metaspace");
    const begins = mark && (mark.prepend_scheme ?? "always") === "always" ? (mark.replacement ?? "▁") : undefined;
    return begins !== undefined && model.vocab.some(([piece]) => piece === begins);
  }
}
