/**
 * Every public option with its check and its default.
 */
import { boolean, type Check, check, defined, integer, invalid, oneOf } from "./check.js";
import type {
  Activation,
  Device,
  Dtype,
  EncodeOptions,
  Exit,
  OpenOptions,
  RerankOptions,
  ScoreOptions,
  Truncation,
} from "./types.js";

/** What of an opened model decides which values are possible. */
export interface Limits {
  readonly maxTokens: number;
  readonly exitLayers: readonly number[];
}

/** Values of the options that are words. */
export const DEVICES = ["auto", "cpu", "cuda", "emulator", "reference"] as const satisfies readonly Device[];
export const DTYPES = ["auto", "f32", "bf16", "f16", "int8"] as const satisfies readonly Dtype[];
export const TRUNCATIONS = ["document", "error", "chunk-max"] as const satisfies readonly Truncation[];
export const ACTIVATIONS = ["sigmoid", "none"] as const satisfies readonly Activation[];

/** Longest default sequence, in tokens: beyond it, attention's cost grows faster than what it finds. */
const DEFAULT_MAX_LENGTH = 512;

const signal: Check = (value, name) => {
  if (!(value instanceof AbortSignal)) throw invalid("an AbortSignal", name, value);
};

function layersOf(exitLayers: readonly number[], least: number): Check {
  const one = oneOf(exitLayers);
  return (value, name) => {
    if (value === "all") return;
    if (!Array.isArray(value) || value.length < least)
      throw invalid(`"all" or an array of ${least > 0 ? "at least one of " : ""}${exitLayers.join(", ")}`, name, value);
    for (const [i, layer] of value.entries()) one(layer, `${name}[${i}]`);
  };
}

/** A number strictly above one bound and at most another. */
function within(above: number, most: number): Check {
  return (value, name) => {
    if (typeof value !== "number" || !(value > above && value <= most))
      throw invalid(`a number above ${above} and at most ${most}`, name, value);
  };
}

const text: Check = (value, name) => {
  if (typeof value !== "string") throw invalid("a string", name, value);
};

const scores: Check = (value, name) => {
  if (!Array.isArray(value) || !value.every((score) => typeof score === "number"))
    throw invalid("an array of numbers", name, value);
};

/** As `check`, with keys that must be there. */
function checkFields(value: unknown, name: string, checks: Record<string, Check>, required: readonly string[]): void {
  check(value, name, checks);
  for (const key of required) checks[key]!((value as Record<string, unknown>)[key], `${name}.${key}`);
}

/** Thresholds by exit layer before full depth. */
function thresholdsOf(exitLayers: readonly number[]): Check {
  const layer = oneOf(exitLayers.slice(0, -1));
  const share = within(0, 1);
  return (value, name) => {
    const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
    if (entries.length === 0) throw invalid("an object of thresholds by exit layer", name, value);
    for (const [key, threshold] of entries) {
      layer(Number(key), `a layer of ${name}`);
      share(threshold, `${name}[${key}]`);
    }
  };
}

/** Fields of each exit besides `type`, and those it cannot do without. */
function exit(exitLayers: readonly number[]): Check {
  const k = integer(1, 1024);
  const difficulty: Check = (value, name) => checkFields(value, name, { below: within(0, 1), k }, ["below"]);
  const fields: Readonly<Record<Exit["type"], [Record<string, Check>, string[]]>> = {
    full: [{}, []],
    layer: [{ layer: oneOf(exitLayers) }, ["layer"]],
    "top-k": [{ k, alpha: within(0, 1), group: text, promise: oneOf(["exact", "recall"]) }, []],
    budget: [{ compute: within(0, 1), loss: within(0, 1), k }, []],
    confidence: [{ thresholds: thresholdsOf(exitLayers), over: oneOf(["pair", "list"]), difficulty }, ["thresholds"]],
  };
  return (value, name) => {
    if (typeof value !== "object" || value === null) throw invalid('an object such as { type: "full" }', name, value);
    const { type } = value as Exit;
    oneOf(Object.keys(fields))(type, `${name}.type`);
    const [checks, required] = fields[type];
    checkFields(value, name, { type: () => {}, ...checks }, required);
    const { compute, loss } = value as Partial<Record<"compute" | "loss", number>>;
    if (type === "budget" && (compute === undefined) === (loss === undefined))
      throw invalid("either compute or loss", name, value);
  };
}

/** A word of `DEVICES`, or GPUs by number. */
export function isDevice(value: unknown): value is Device {
  return (
    typeof value === "string" &&
    ((DEVICES as readonly string[]).includes(value) || /^cuda:\d{1,3}(,\d{1,3})*$/.test(value))
  );
}

const device: Check = (value, name) => {
  if (!isDevice(value)) oneOf(DEVICES, ', or GPUs by number such as "cuda:1" or "cuda:0,1",')(value, name);
};

export function checkOpen(options: OpenOptions): OpenOptions {
  check(options, "options", {
    device,
    dtype: oneOf(DTYPES),
    threads: integer(1, 1024),
    audit: within(0, 1),
  });
  return defined(options);
}

const encodeChecks = ({ maxTokens }: Limits) => ({
  maxLength: integer(1, maxTokens),
  truncation: oneOf(TRUNCATIONS),
});

const encodeDefaults = ({ maxTokens }: Limits): Required<EncodeOptions> => ({
  maxLength: Math.min(maxTokens, DEFAULT_MAX_LENGTH),
  truncation: "document",
});

/** Rerank options with every default in place; layers as an ascending list no deeper than `depth`. */
export interface ResolvedRerank
  extends Required<Omit<RerankOptions, "signal" | "layers" | "firstStageScores" | "deadlineMs">> {
  readonly depth: number;
  readonly layers: readonly number[];
  readonly firstStageScores?: readonly number[];
  readonly deadlineMs?: number;
  readonly signal: AbortSignal | undefined;
}

export function checkRerank(options: RerankOptions, limits: Limits, what = "options"): ResolvedRerank {
  const { exitLayers } = limits;
  check(options, what, {
    topN: integer(1),
    exit: exit(exitLayers),
    activation: oneOf(ACTIVATIONS),
    layers: layersOf(exitLayers, 0),
    returnDocuments: boolean,
    firstStageScores: scores,
    deadlineMs: within(0, 2 ** 31),
    signal,
    ...encodeChecks(limits),
  });
  const resolved = {
    topN: Number.POSITIVE_INFINITY,
    exit: { type: "full" } as Exit,
    activation: "sigmoid" as const,
    layers: [] as const,
    returnDocuments: false,
    signal: undefined,
    ...encodeDefaults(limits),
    ...defined(options),
  };
  const decides = resolved.exit.type !== "full" && resolved.exit.type !== "layer";
  if (decides && resolved.truncation === "chunk-max")
    throw invalid(
      '"document" or "error", because a rule decides about whole documents,',
      `${what}.truncation`,
      "chunk-max",
    );
  const depth = resolved.exit.type === "layer" ? resolved.exit.layer : exitLayers.at(-1)!;
  const possible = exitLayers.filter((layer) => layer <= depth);
  const { layers } = resolved;
  if (layers !== "all")
    for (const [i, layer] of layers.entries())
      oneOf(possible, ` (exit runs to layer ${depth})`)(layer, `${what}.layers[${i}]`);
  return {
    ...resolved,
    ...(options.firstStageScores && { firstStageScores: options.firstStageScores.slice() }),
    depth,
    layers: possible.filter((layer) => layers === "all" || layers.includes(layer)),
  };
}

/** Score options with every default in place. */
export interface ResolvedScore extends Required<EncodeOptions> {
  readonly layers: readonly number[];
  readonly states: boolean;
  readonly signal: AbortSignal | undefined;
}

export function checkScore(options: ScoreOptions, limits: Limits): ResolvedScore {
  const { exitLayers } = limits;
  check(options, "options", { layers: layersOf(exitLayers, 1), states: boolean, signal, ...encodeChecks(limits) });
  const resolved = {
    layers: "all" as const,
    states: false,
    signal: undefined,
    ...encodeDefaults(limits),
    ...defined(options),
  };
  const { layers } = resolved;
  return { ...resolved, layers: exitLayers.filter((layer) => layers === "all" || layers.includes(layer)) };
}
