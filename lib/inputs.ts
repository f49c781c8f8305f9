/**
 * Checks of what calls score: queries, documents, pairs, requests.
 */
import { invalid, show } from "./check.js";
import { MatryoshkaError } from "./errors.js";
import type { Document, Pair, RerankRequest } from "./types.js";

/** Throws `ERR_INVALID_ARGUMENT`, or `ERR_EMPTY_QUERY` where there is nothing but whitespace. */
export function checkQuery(query: unknown, name = "query"): asserts query is string {
  if (typeof query !== "string") throw invalid("a string", name, query);
  if (query.trim() === "")
    throw new MatryoshkaError(
      "ERR_EMPTY_QUERY",
      `Expected text for ${name} but received ${show(query)}. Ask something.`,
    );
}

export function checkDocuments(documents: unknown, name = "documents"): asserts documents is readonly Document[] {
  if (!Array.isArray(documents)) throw invalid("an array", name, documents);
  for (const [i, document] of documents.entries()) {
    if (typeof document === "string" || typeof (document as { text?: unknown } | null)?.text === "string") continue;
    throw invalid("a string, or an object with a string under text,", `${name}[${i}]`, document);
  }
}

export function checkPairs(pairs: unknown): asserts pairs is readonly Pair[] {
  if (!Array.isArray(pairs)) throw invalid("an array", "pairs", pairs);
  for (const [i, pair] of pairs.entries()) {
    if (typeof pair !== "object" || pair === null)
      throw invalid("an object with query and document", `pairs[${i}]`, pair);
    const { query, document } = pair as Partial<Pair>;
    checkQuery(query, `pairs[${i}].query`);
    if (typeof document !== "string") throw invalid("a string", `pairs[${i}].document`, document);
  }
}

export function checkRequests(requests: unknown): void {
  const source = typeof requests === "object" && requests !== null ? requests : {};
  if (!(Symbol.asyncIterator in source || Symbol.iterator in source))
    throw invalid("an iterable or async iterable of { query, documents }", "requests", requests);
}

export function checkRequest(request: unknown, name: string): asserts request is RerankRequest {
  if (typeof request !== "object" || request === null)
    throw invalid("an object with query and documents", name, request);
  const { query, documents, options = {} } = request as Partial<RerankRequest>;
  checkQuery(query, `${name}.query`);
  checkDocuments(documents, `${name}.documents`);
  if (typeof options !== "object" || options === null) throw invalid("an object", `${name}.options`, options);
  if ("signal" in options && options.signal !== undefined)
    throw invalid("none, because the whole call has one,", `${name}.options.signal`, options.signal);
}
