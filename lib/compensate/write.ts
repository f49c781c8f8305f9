/**
 * Puts compensations into a model's matryoshka.safetensors, beside its exit heads, and says so in matryoshka.json.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MatryoshkaError } from "../errors.js";
import { readJson } from "../read-json.js";
import { writeInTurn } from "../write-whole.js";
import type { CompensationTensors } from "./network.js";

export type CompensationKind = "none" | "affine" | "mlp";

interface Tensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/**
 * `heads` by exit layer; they take the place of earlier ones, and an empty map leaves none. `kind` is what
 * matryoshka.json calls them, `provenance` where they come from. Certificates go, since they
 * were made for other estimates. Throws `ERR_FILE`, with the model as it was.
 */
export async function writeCompensation(
  directory: string,
  heads: ReadonlyMap<number, CompensationTensors>,
  kind: CompensationKind,
  provenance: object,
): Promise<void> {
  const path = join(directory, "matryoshka.safetensors");
  const tensors = new Map([...(await readTensors(path))].filter(([name]) => !name.startsWith("compensation.")));
  for (const [layer, { hidden, output }] of heads) {
    const units = hidden ? hidden.bias.length : 0;
    const put = (name: string, shape: number[], values: Float32Array) =>
      tensors.set(`compensation.${layer}.${name}`, { dtype: "F32", shape, bytes: littleEndian(values) });
    if (hidden) {
      put("hidden.weight", [units, hidden.weight.length / units], hidden.weight);
      put("hidden.bias", [units], hidden.bias);
    }
    put("output.weight", [2, units + 1], output.weight);
    put("output.bias", [2], output.bias);
  }
  const {
    certificates: _,
    compensatedFrom: __,
    ...file
  } = (await readJson(join(directory, "matryoshka.json"), {})) as {
    certificates?: unknown;
    compensatedFrom?: unknown;
  };
  const says = (compensation: CompensationKind, more: object) =>
    [
      join(directory, "matryoshka.json"),
      `${JSON.stringify({ ...file, compensation, ...more }, undefined, 2)}\n`,
    ] as const;
  // Between the two files' changes the model is one without compensation.
  await writeInTurn([
    says("none", {}),
    [path, packed(tensors)],
    ...(kind === "none" ? [] : [says(kind, { compensatedFrom: provenance })]),
  ]);
}

/** The engine has checked this file when the model was opened. */
async function readTensors(path: string): Promise<Map<string, Tensor>> {
  const file = await readFile(path).catch((cause: Error) => {
    throw new MatryoshkaError("ERR_FILE", `Expected to be able to read ${path}: ${cause.message}`, { cause });
  });
  const start = 8 + Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return new Map(
    Object.entries(header).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [first, last],
        },
      ]) => [name, { dtype, shape, bytes: file.subarray(start + first, start + last) }],
    ),
  );
}

/** A safetensors file. Data begin at a multiple of 8 bytes. */
function packed(tensors: ReadonlyMap<string, Tensor>): Uint8Array {
  let at = 0;
  const header = Object.fromEntries(
    [...tensors].map(([name, { dtype, shape, bytes }]) => {
      const first = at;
      at += bytes.length;
      return [name, { dtype, shape, data_offsets: [first, at] }];
    }),
  );
  const json = JSON.stringify(header);
  const padded = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...[...tensors.values()].map(({ bytes }) => bytes)]);
}

function littleEndian(values: Float32Array): Uint8Array {
  const bytes = Buffer.alloc(values.length * 4);
  values.forEach((value, i) => {
    bytes.writeFloatLE(value, i * 4);
  });
  return bytes;
}
