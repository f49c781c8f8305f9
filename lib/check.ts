/**
 * The machinery of argument checks: one message form for wrong values, the nearest name for unknown keys.
 */
import { MatryoshkaError } from "./errors.js";

/** Throws unless the value is what `name` stands for. */
export type Check = (value: unknown, name: string) => void;

/** `Expected … for … but received … of type …`. */
export function invalid(expected: string, name: string, value: unknown): MatryoshkaError {
  return new MatryoshkaError(
    "ERR_INVALID_ARGUMENT",
    `Expected ${expected} for ${name} but received ${show(value)} of type ${typeof value}.`,
  );
}

export function show(value: unknown): string {
  if (typeof value === "string") return value.length > 40 ? `"${value.slice(0, 40)}…"` : JSON.stringify(value);
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return `an array of ${value.length}`;
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/** A whole number within bounds. */
export function integer(least: number, most = Number.MAX_SAFE_INTEGER): Check {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return (value, name) => {
    if (!Number.isInteger(value) || (value as number) < least || (value as number) > most)
      throw invalid(`an integer ${range}`, name, value);
  };
}

export const boolean: Check = (value, name) => {
  if (typeof value !== "boolean") throw invalid("true or false", name, value);
};

/** One of some values; `others` ends the message. */
export function oneOf(values: readonly unknown[], others = ""): Check {
  return (value, name) => {
    if (!values.includes(value)) throw invalid(`${values.map(show).join(", ")}${others}`, name, value);
  };
}

/** Edit distance (Levenshtein), over one row of its table. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

/** Of some names, the one that was most likely meant. */
export function nearest(name: string, known: readonly string[]): string {
  const key = name.toLowerCase();
  const score = (other: string) => distance(key, other.toLowerCase());
  return known.reduce((best, other) => (score(other) < score(best) ? other : best));
}

/** An object of known keys, each checked where it is defined. Throws `ERR_UNKNOWN_OPTION` naming the nearest key. */
export function check(options: unknown, what: string, checks: Readonly<Record<string, Check>>): void {
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw invalid("an object", what, options);
  const known = Object.keys(checks);
  for (const [key, value] of Object.entries(options)) {
    const checkValue = Object.hasOwn(checks, key) ? checks[key] : undefined;
    if (!checkValue)
      throw new MatryoshkaError(
        "ERR_UNKNOWN_OPTION",
        `Expected ${known.join(", ")} in ${what} but received "${key}". Did you mean "${nearest(key, known)}"?`,
      );
    if (value !== undefined) checkValue(value, `${what}.${key}`);
  }
}

/** The options without keys that are undefined, so that they never hide a default. */
export function defined<T extends object>(options: T): T {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as T;
}
