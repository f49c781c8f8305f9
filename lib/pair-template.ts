/**
 * How a query and a document become one sequence, read from the post-processor of tokenizer.json.
 */
import { MatryoshkaError } from "./errors.js";

/** A special token, or the place of the query (A) or the document (B), with its token type. */
export type TemplatePart =
  | { readonly kind: "special"; readonly id: number; readonly type: number }
  | { readonly kind: "A" | "B"; readonly type: number };

export interface PairTemplate {
  /** For a query whose document is the empty string. */
  readonly single: readonly TemplatePart[];
  readonly pair: readonly TemplatePart[];
}

const special = (id: number, type: number): TemplatePart => ({ kind: "special", id, type });
const query = (type: number): TemplatePart => ({ kind: "A", type });
const document = (type: number): TemplatePart => ({ kind: "B", type });

// The three post-processors that know pairs, in the fields of Hugging Face's tokenizer.json.
interface Template {
  readonly type: "TemplateProcessing";
  readonly single: readonly TemplateItem[];
  readonly pair: readonly TemplateItem[];
  readonly special_tokens: Readonly<Record<string, { readonly ids: readonly number[] }>>;
}
type TemplateItem =
  | { readonly SpecialToken: { readonly id: string; readonly type_id: number } }
  | { readonly Sequence: { readonly id: "A" | "B"; readonly type_id: number } };
interface Classic {
  readonly type: "BertProcessing" | "RobertaProcessing";
  readonly cls: readonly [string, number];
  readonly sep: readonly [string, number];
}
type PostProcessor =
  | Template
  | Classic
  | { readonly type: "Sequence"; readonly processors: readonly PostProcessor[] }
  | { readonly type: "ByteLevel" };

function unsupported(what: string): never {
  throw new MatryoshkaError(
    "ERR_UNSUPPORTED_TOKENIZER",
    "Expected post_processor of tokenizer.json to be TemplateProcessing, BertProcessing or RobertaProcessing, with a " +
      `pair template of one query before one document, but received ${what}. Save the tokenizer with such a template.`,
  );
}

function fromTemplate({ single, pair, special_tokens }: Template): PairTemplate {
  const parts = (items: readonly TemplateItem[]) =>
    items.flatMap((item): TemplatePart[] => {
      if ("Sequence" in item) return [{ kind: item.Sequence.id, type: item.Sequence.type_id }];
      const { id, type_id } = item.SpecialToken;
      const ids = special_tokens[id]?.ids ?? unsupported(`a template that names ${id}, which special_tokens lacks`);
      return ids.map((token) => special(token, type_id));
    });
  return { single: parts(single), pair: parts(pair) };
}

function fromClassic({ type, cls: [, cls], sep: [, sep] }: Classic): PairTemplate {
  const single = [special(cls, 0), query(0), special(sep, 0)];
  // RoBERTa separates by two tokens and has one type for everything.
  const tail =
    type === "BertProcessing" ? [document(1), special(sep, 1)] : [special(sep, 0), document(0), special(sep, 0)];
  return { single, pair: [...single, ...tail] };
}

function convert(post: PostProcessor | null | undefined): PairTemplate {
  switch (post?.type) {
    case "TemplateProcessing":
      return fromTemplate(post);
    case "BertProcessing":
    case "RobertaProcessing":
      return fromClassic(post);
    case "Sequence": {
      // ByteLevel trims offsets there, which are not used here.
      const known = post.processors.filter((p) => p.type !== "ByteLevel");
      return known.length === 1 ? convert(known[0]) : unsupported(`a sequence of ${known.length} templates`);
    }
    default:
      return unsupported(post ? `type ${JSON.stringify(post.type)}` : "none");
  }
}

/** Throws `ERR_UNSUPPORTED_TOKENIZER` for anything but a template with one query before one document. */
export function readPairTemplate(postProcessor: unknown): PairTemplate {
  let template: PairTemplate;
  try {
    template = convert(postProcessor as PostProcessor | null | undefined);
  } catch (cause) {
    // Fields of another shape than the type promises.
    if (cause instanceof TypeError) return unsupported("fields it cannot read");
    throw cause;
  }
  const order = (parts: readonly TemplatePart[]) => parts.map(({ kind }) => (kind === "special" ? "" : kind)).join("");
  if (order(template.single) !== "A" || order(template.pair) !== "AB")
    unsupported(`a template in the order "${order(template.single)}", "${order(template.pair)}"`);
  return template;
}
