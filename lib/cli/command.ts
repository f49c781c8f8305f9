/**
 * What a command is, and how its arguments are read: node:util's parser, with the nearest name for a misspelt one.
 */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { nearest } from "../check.js";
import { DEVICES, DTYPES, isDevice } from "../options.js";
import type { OpenOptions } from "../types.js";
import type { Output } from "./output.js";

type Options = NonNullable<ParseArgsConfig["options"]>;

/** Values of a command's options: strings, lists of them where an option may be repeated, or true for flags. */
export type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export interface Context {
  readonly values: Values;
  readonly positionals: readonly string[];
  readonly output: Output;
  /** Aborts on SIGINT and SIGTERM. */
  readonly signal: AbortSignal;
}

export interface Command {
  /** One line for the list of commands. */
  readonly summary: string;
  /** The command's own help, with an example. */
  readonly help: string;
  readonly options: Options;
  /** Most positional arguments it takes. */
  readonly positionals: number;
  run(context: Context): Promise<void>;
}

/** Wrong use of the command line: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Options that every command takes. */
export const COMMON: Options = {
  json: { type: "boolean" },
  quiet: { type: "boolean" },
  help: { type: "boolean", short: "h" },
};

/** Options of the commands that open a model. */
export const MODEL: Options = {
  model: { type: "string" },
  device: { type: "string" },
  dtype: { type: "string" },
  threads: { type: "string" },
};

export const COMMON_HELP = `  --model DIR        a checkpoint (default: the bundled model)
  --device NAME      auto, cpu, cuda, cuda:1, cuda:0,1, emulator or reference (default: auto)
  --dtype NAME       auto, f32, bf16, f16 or int8 (default: auto)
  --threads N        worker threads (default: the CPUs there are)
  --json             machine-readable output
  --quiet            no progress on the terminal`;

/** Reads `args` by the command's options. Throws UsageError. */
export function readArguments(command: Command, args: readonly string[]): { values: Values; positionals: string[] } {
  const options: Options = { ...COMMON, ...command.options };
  // Not strict: its complaints name neither the nearest option nor what to do.
  const parsed = parseArgs({ args: [...args], options, strict: false, tokens: true, allowPositionals: true });
  const { values, positionals, tokens } = parsed;
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (!option)
      throw new UsageError(
        `unknown option ${token.rawName}; did you mean --${nearest(token.name, Object.keys(options))}?`,
      );
    if (option.type === "string" && (token.value === undefined || (!token.inlineValue && /^-./.test(token.value))))
      throw new UsageError(`${token.rawName} needs a value; ${token.rawName}=VALUE for one that begins with a dash`);
    if (option.type === "boolean" && token.value !== undefined) throw new UsageError(`${token.rawName} takes no value`);
  }
  if (positionals.length > command.positionals)
    throw new UsageError(`unexpected argument ${JSON.stringify(positionals[command.positionals])}`);
  return { values: values as Values, positionals };
}

/** A string option, or undefined. */
export function text(values: Values, name: string): string | undefined {
  const value = values[name];
  return typeof value === "string" ? value : undefined;
}

/** Every value of an option that may be repeated, in order. */
export function texts(values: Values, name: string): readonly string[] {
  const value = values[name];
  return Array.isArray(value) ? value : [];
}

/** A string option that must be there. */
export function required(values: Values, name: string): string {
  const value = text(values, name);
  if (value === undefined) throw new UsageError(`--${name} is needed`);
  return value;
}

/** One of some words, or undefined. */
export function choice<T extends string>(values: Values, name: string, words: readonly T[]): T | undefined {
  const value = text(values, name);
  const chosen = words.find((word) => word === value);
  if (value === undefined || chosen !== undefined) return chosen;
  throw new UsageError(
    `--${name} needs ${words.join(", ")}, got ${JSON.stringify(value)}; did you mean ${nearest(value, words)}?`,
  );
}

/** A whole number of at least 1, or undefined. */
export function count(values: Values, name: string): number | undefined {
  const value = text(values, name);
  if (value === undefined) return undefined;
  if (!/^[1-9]\d{0,9}$/.test(value))
    throw new UsageError(`--${name} needs a whole number from 1, got ${JSON.stringify(value)}`);
  return Number(value);
}

/** `all`, or layer numbers separated by commas. */
export function layers(values: Values, name = "layers"): "all" | number[] | undefined {
  const value = text(values, name);
  if (value === undefined || value === "all") return value;
  if (!/^\d+(,\d+)*$/.test(value))
    throw new UsageError(`--${name} needs all or numbers such as 4,8,12, got ${JSON.stringify(value)}`);
  return value.split(",").map(Number);
}

/** What `Reranker.open` takes, from the common options. */
export function openOptions(values: Values): OpenOptions {
  const threads = count(values, "threads");
  return {
    device: isDevice(values.device) ? values.device : (choice(values, "device", DEVICES) ?? "auto"),
    dtype: choice(values, "dtype", DTYPES) ?? "auto",
    ...(threads !== undefined && { threads }),
  };
}
