/**
 * Lets the event loop run between slices of tokenization.
 */
import { setImmediate } from "node:timers/promises";

/** Milliseconds of tokenization after which a call gives way. */
export const SLICE = 4;

let last: Promise<void> = Promise.resolve();

/** Resolves in a later turn of the event loop that no other caller gets, so that slices of many calls do not add up. */
export function nextTurn(): Promise<void> {
  last = last.then(() => setImmediate());
  return last;
}
