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

/** `promise`, or the abort where that comes first. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  throwIfAborted(signal);
  let stop = () => {};
  const abort = new Promise<never>((_, reject) => {
    stop = () => reject(aborted(signal));
    signal.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([promise, abort]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(signal);
}
