/**
 * The whole public surface of the package.
 */
export { type ErrorCode, MatryoshkaError } from "./errors.js";
export { DEFAULT_MODEL, inspectModel } from "./model-info.js";
export { Reranker } from "./reranker.js";
export {
  chooseDevice,
  chooseDtype,
  type DeviceChoice,
  type DtypeChoice,
  type Machine,
  machine,
} from "./resolve.js";
export type * from "./types.js";
