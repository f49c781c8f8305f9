/**
 * The package's one error class.
 */

/** What can go wrong, as a stable string to switch on. */
export type ErrorCode =
  | "ERR_ABORTED"
  | "ERR_CLOSED"
  | "ERR_CONFIG_INVALID"
  | "ERR_EMPTY_QUERY"
  | "ERR_FILE"
  | "ERR_INPUT_TOO_LONG"
  | "ERR_INTERNAL"
  | "ERR_INVALID_ARGUMENT"
  | "ERR_MODEL_INVALID"
  | "ERR_MODEL_NOT_FOUND"
  | "ERR_NATIVE_NOT_FOUND"
  | "ERR_NOT_CERTIFIABLE"
  | "ERR_OUT_OF_MEMORY"
  | "ERR_SAFETENSORS_INVALID"
  | "ERR_TENSOR_DTYPE"
  | "ERR_TENSOR_MISSING"
  | "ERR_TENSOR_NOT_FINITE"
  | "ERR_TENSOR_SHAPE"
  | "ERR_UNKNOWN_OPTION"
  | "ERR_UNSUPPORTED_ARCHITECTURE"
  | "ERR_UNSUPPORTED_DEVICE"
  | "ERR_UNSUPPORTED_DTYPE"
  | "ERR_UNSUPPORTED_TOKENIZER";

/**
 * Every error this package throws on purpose. `code` is for programs; the message says what was expected, what came,
 * and what to do about it; `cause` keeps what lies underneath (an abort's reason, a system error).
 */
export class MatryoshkaError extends Error {
  override readonly name = "MatryoshkaError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** `ERR_FILE` for a path that could not be written. */
export function cannotWrite(path: string, cause: unknown): MatryoshkaError {
  return new MatryoshkaError("ERR_FILE", `Expected to be able to write ${path}: ${(cause as Error).message}`, {
    cause,
  });
}
