/**
 * What an aborted call rejects with.
 */
import { MatryoshkaError } from "./errors.js";

/** `cause` is the signal's reason. */
export function aborted(signal: AbortSignal): MatryoshkaError {
  return new MatryoshkaError("ERR_ABORTED", "The call was aborted by its signal; the reason is this error's cause.", {
    cause: signal.reason,
  });
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal);
}
