/**
 * Reads a training configuration: every key checked, defaults filled in, paths made absolute.
 */
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { boolean, type Check, check, integer, invalid, oneOf } from "../check.js";
import { MatryoshkaError } from "../errors.js";
import { readJson } from "../read-json.js";
import type { TrainConfig, TrainSource } from "./types.js";

/**
 * `init` takes the place of the file's own, and its exit layers and token types are the defaults. Throws `ERR_FILE` for a
 * file that cannot be read, `ERR_CONFIG_INVALID` naming the file and the key for all else.
 */
export async function readConfig(path: string, init?: string): Promise<TrainConfig> {
  const given = await parse(path);
  try {
    checkConfig(given);
    return await complete(init === undefined ? given : { ...given, init }, dirname(resolve(path)));
  } catch (cause) {
    if (!(cause instanceof MatryoshkaError)) throw cause;
    throw new MatryoshkaError("ERR_CONFIG_INVALID", `${path}: ${cause.message}`, { cause });
  }
}

async function parse(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new MatryoshkaError("ERR_FILE", `Expected a readable configuration: ${(cause as Error).message}`, { cause });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new MatryoshkaError("ERR_CONFIG_INVALID", `${path}: expected JSON: ${(cause as Error).message}`, { cause });
  }
}

const text: Check = (value, name) => {
  if (typeof value !== "string" || value === "") throw invalid("a string", name, value);
};

/** A finite number, from `least` to `most`, or with `open` strictly between. */
function number(least: number, most = Number.POSITIVE_INFINITY, open: "" | "above" | "below" | "between" = ""): Check {
  const above = open === "above" || open === "between";
  const below = open === "below" || open === "between";
  const range = `a number ${above ? "above" : "of at least"} ${least}${
    most === Number.POSITIVE_INFINITY ? "" : ` and ${below ? "below" : "at most"} ${most}`
  }`;
  return (value, name) => {
    const good =
      typeof value === "number" &&
      Number.isFinite(value) &&
      (above ? value > least : value >= least) &&
      (below ? value < most : value <= most);
    if (!good) throw invalid(range, name, value);
  };
}

function list(each: Check, least = 0): Check {
  return (value, name) => {
    if (!Array.isArray(value) || value.length < least)
      throw invalid(least > 0 ? `an array of at least ${least}` : "an array", name, value);
    for (const [i, item] of value.entries()) each(item, `${name}[${i}]`);
  };
}

const ascending: Check = (value, name) => {
  list(integer(1), 1)(value, name);
  const numbers = value as number[];
  if (numbers.some((each, i) => i > 0 && each <= numbers[i - 1]!)) throw invalid("ascending numbers", name, value);
};

/** An object of known keys, of which some must be there. */
function record(checks: Readonly<Record<string, Check>>, required: readonly string[] = []): Check {
  return (value, name) => {
    check(value, name, checks);
    for (const key of required) checks[key]!((value as Record<string, unknown>)[key], `${name}.${key}`);
  };
}

const share = number(0, 1);
const weight = number(0);
const positive = number(0, Number.POSITIVE_INFINITY, "above");

const CHECKS: Readonly<Record<string, Check>> = {
  $schema: text,
  init: text,
  exitLayers: ascending,
  head: oneOf(["linear", "query"]),
  carry: list(number(0, 1, "below"), 1),
  tokenTypes: oneOf(["segment", "match"]),
  maxLength: integer(16, 1 << 20),
  maxQueryLength: integer(1, 1 << 20),
  seed: integer(0),
  dtype: oneOf(["bf16", "f32"]),
  steps: integer(1),
  listsPerStep: integer(1),
  listSize: integer(2, 4096),
  turnTokens: integer(1, 1 << 24),
  recompute: boolean,
  layerDropout: number(0, 1, "below"),
  sources: list(
    record(
      {
        ...{ path: text, name: text, split: text, run: text, teachers: list(text) },
        ...{ depth: integer(1), limit: integer(1), weight: positive },
      },
      ["path"],
    ),
    1,
  ),
  negatives: record({
    random: share,
    falseNegativeMargin: weight,
    rounds: (value, name) => {
      if (!(Array.isArray(value) && value.length === 0)) ascending(value, name);
    },
    keep: integer(1),
    queries: integer(1),
  }),
  loss: record({
    exitWeights: list(weight, 1),
    rank: weight,
    binary: weight,
    teachers: list(record({ weight, temperature: positive, soften: positive }, ["weight"])),
    distill: record({
      weight,
      temperature: positive,
      direction: oneOf(["forward", "reverse"]),
      anchors: list(integer(1)),
    }),
  }),
  optimizer: record({
    ...{ encoder: weight, heads: weight, beta1: number(0, 1, "below"), beta2: number(0, 1, "below") },
    ...{ epsilon: number(0, 1, "above"), weightDecay: weight, clip: positive },
    ...{ warmup: share, decay: oneOf(["linear", "cosine", "constant"]) },
  }),
  validation: record({
    every: integer(1),
    sets: list(
      record({ path: text, split: text, run: text, queries: integer(1), depth: integer(1) }, ["path", "split", "run"]),
    ),
  }),
  checkpoint: record({ every: integer(1) }),
};

/** What the file may say: everything but three keys may be left out. */
type Given = Partial<Omit<TrainConfig, "negatives" | "loss" | "optimizer" | "validation" | "checkpoint">> &
  Pick<TrainConfig, "init" | "steps" | "sources"> & {
    readonly [K in "negatives" | "loss" | "optimizer" | "validation" | "checkpoint"]?: Partial<TrainConfig[K]>;
  };

function checkConfig(value: unknown): asserts value is Given {
  record(CHECKS, ["init", "steps", "sources"])(value, "the configuration");
}

/** Sources in FlagEmbedding's format; all others are BEIR directories. */
export const JSON_LINES = /\.jsonl(\.gz)?$/;

/** Tokens that a query leaves to the template and a document. */
const ROOM = 8;

async function complete(given: Given, base: string): Promise<TrainConfig> {
  const { $schema: _, ...rest } = given as Given & { $schema?: string };
  const init = resolve(base, given.init);
  const checkpoint: Partial<TrainConfig> = await readJson(join(init, "matryoshka.json"), {});
  const exitLayers = given.exitLayers ?? checkpoint.exitLayers ?? (await everyLayer(init));
  const { tokenTypes = "segment" } = checkpoint;
  CHECKS.tokenTypes!(tokenTypes, `tokenTypes of ${join(init, "matryoshka.json")}`);
  const carry = given.carry ?? (isSame(exitLayers, checkpoint.exitLayers) ? checkpoint.carry : undefined);
  if (carry && (carry.length !== exitLayers.length || carry[0] !== 0))
    throw invalid(`one share for each of the ${exitLayers.length} exit layers, the first of them 0`, "carry", carry);
  const at = (path: string) => resolve(base, path);
  const loss = { exitWeights: exitLayers.map(() => 1), rank: 1, binary: 0.1, teachers: [], ...given.loss };
  const { maxLength = 256, maxQueryLength = 64 } = given;
  if (given.negatives?.falseNegativeMargin !== undefined && loss.teachers.length === 0)
    throw invalid(
      "nothing without loss.teachers, whose scores it is about",
      "negatives.falseNegativeMargin",
      given.negatives.falseNegativeMargin,
    );
  if (maxQueryLength > maxLength - ROOM)
    throw invalid(`at most maxLength − ${ROOM} = ${maxLength - ROOM}`, "maxQueryLength", maxQueryLength);
  return {
    ...{ tokenTypes, maxLength, maxQueryLength, seed: 1, dtype: "bf16", listsPerStep: 8 },
    ...{ listSize: 16, turnTokens: 8192, recompute: false, layerDropout: 0 },
    ...rest,
    ...{ init, exitLayers, ...(carry && { carry }) },
    sources: given.sources.map((source, i) => completeSource(source, `sources[${i}]`, at)),
    negatives: { random: 0.1, rounds: [], keep: 15, queries: 2000, ...given.negatives },
    loss: {
      ...loss,
      teachers: loss.teachers.map(({ weight: each, temperature = 1, soften = 1 }) => ({
        weight: each,
        temperature,
        soften,
      })),
      distill: { weight: 0.5, temperature: 1, direction: "forward", anchors: [], ...given.loss?.distill },
    },
    optimizer: {
      ...{ encoder: 6e-5, heads: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, clip: 1 },
      ...{ warmup: 0.05, decay: "linear" as const },
      ...given.optimizer,
    },
    validation: {
      every: given.validation?.every ?? 500,
      sets: (given.validation?.sets ?? []).map((set) => ({ ...set, path: at(set.path) })),
    },
    checkpoint: { every: 200, ...given.checkpoint },
  };
}

function completeSource(source: TrainSource, place: string, at: (path: string) => string): TrainSource {
  for (const key of ["split", "run", "teachers", "depth"] as const)
    if (JSON_LINES.test(source.path) && source[key] !== undefined)
      throw invalid("nothing, as JSON lines have none", `${place}.${key}`, source[key]);
  return {
    name: basename(source.path).replace(JSON_LINES, ""),
    ...source,
    path: at(source.path),
    ...(source.teachers && { teachers: source.teachers.map(at) }),
  };
}

function isSame(a: readonly number[], b: readonly number[] | undefined): boolean {
  return a.length === b?.length && a.every((each, i) => each === b[i]);
}

async function everyLayer(init: string): Promise<number[]> {
  const { num_hidden_layers: layers } = (await readJson(join(init, "config.json"))) as { num_hidden_layers?: number };
  return Array.from({ length: layers ?? 0 }, (_, i) => i + 1);
}
