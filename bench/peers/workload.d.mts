/** Types of what TypeScript benchmarks use of workload.mjs. */
export interface EncodedPair {
  readonly query: string;
  readonly document: string;
  readonly ids: readonly number[];
  readonly types: readonly number[];
}

export function workloads(): {
  readonly all: EncodedPair[];
  readonly sample: EncodedPair[];
  readonly query: EncodedPair[];
};
