/**
 * Maps a sequence concurrently, yields in its order, and reads no further ahead than a bound.
 */
import { throwIfAborted } from "./abort.js";

/**
 * Runs `work` for up to `ahead` items at once. A result is yielded as soon as it is its turn, also while the source
 * makes the next item wait. `stop` is aborted with `signal`, when one item fails, and when the consumer leaves early;
 * all work has settled by the time the generator ends.
 */
export async function* inOrder<T, R>(
  items: Iterable<T> | AsyncIterable<T>,
  ahead: number,
  signal: AbortSignal | undefined,
  work: (item: T, index: number, stop: AbortSignal) => Promise<R>,
): AsyncGenerator<R, void, undefined> {
  throwIfAborted(signal);
  const controller = new AbortController();
  // One promise at a time to wait on: racing against long-lived ones would keep a handler for every item.
  let wake = () => {};
  const stop = () => {
    controller.abort(signal?.reason);
    wake();
  };
  signal?.addEventListener("abort", stop, { once: true });

  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const running: { readonly result: Promise<R>; settled: boolean }[] = [];
  let index = 0;
  let reading = false;
  let ended = false;
  let failed = false;

  const run = (result: Promise<R>) => {
    const job = { result, settled: false };
    const settle = () => {
      job.settled = true;
      wake();
    };
    result.then(settle, settle);
    running.push(job);
  };
  const read = async () => {
    reading = true;
    try {
      const { done, value } = await iterator.next();
      if (done || controller.signal.aborted) ended = true;
      else run(work(value, index++, controller.signal));
    } catch (error) {
      // The source's error takes its place in the order: what came before is still answered.
      ended = true;
      run(Promise.reject(error));
    }
    reading = false;
    wake();
  };

  try {
    for (;;) {
      throwIfAborted(signal);
      if (running[0]?.settled) {
        yield await running.shift()!.result;
      } else if (!ended && !reading && running.length < ahead) {
        void read();
      } else if (ended && running.length === 0) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } catch (error) {
    failed = true;
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
    controller.abort();
    await Promise.allSettled(running.map(({ result }) => result));
    const closing = ended ? undefined : (async () => iterator.return?.())();
    // A source that never answers must not keep the consumer waiting, and what went wrong first is what it hears of.
    if (reading) closing?.catch(() => {});
    else await (failed ? closing?.catch(() => {}) : closing);
  }
}
