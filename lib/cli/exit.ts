/**
 * Exit rules as words on the command line.
 */
import type { Exit } from "../types.js";
import { UsageError } from "./command.js";

/** `full` or `layer:N`. Whether the model has that exit is for the reranker to say. */
export function parseExit(words: string): Exit {
  const [type, ...rest] = words.split(":");
  const number = /^\d+$/.test(rest[0] ?? "") && rest.length === 1 ? Number(rest[0]) : undefined;
  if (type === "full" && rest.length === 0) return { type };
  if (type === "layer" && number !== undefined) return { type, layer: number };
  throw new UsageError(`--exit needs full or layer:N, got ${JSON.stringify(words)}`);
}
