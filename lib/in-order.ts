/**
 * Maps a sequence concurrently, yields in its order, and reads no further ahead than a bound.
 */
import { aborted, throwIfAborted } from "./abort.js";

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
  let stop = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    stop = () => {
      controller.abort(signal!.reason);
      reject(aborted(signal!));
    };
  });
  interrupted.catch(() => {}); // awaited only while something else is
  signal?.addEventListener("abort", stop, { once: true });

  const iterator = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  const running: Promise<R>[] = [];
  let coming: Promise<IteratorResult<T>> | undefined;
  let ended = false;
  let index = 0;
  try {
    for (;;) {
      if (!ended && running.length < ahead) coming ??= Promise.resolve(iterator.next());
      const oldest = running[0];
      if (!coming && !oldest) return;
      const arrived = coming?.then((next) => ({ next }));
      const answered = oldest?.then((result) => ({ result }));
      const first = await Promise.race([interrupted, ...(answered ? [answered] : []), ...(arrived ? [arrived] : [])]);
      if ("result" in first) {
        running.shift();
        yield first.result;
      } else {
        coming = undefined;
        if (first.next.done) {
          ended = true;
        } else {
          const result = work(first.next.value, index++, controller.signal);
          result.catch(() => {}); // awaited in its turn
          running.push(result);
        }
      }
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    controller.abort();
    await Promise.allSettled(running);
    if (coming)
      void coming.catch(() => {}); // a source that never answers must not keep the consumer waiting
    else if (!ended) await iterator.return?.();
  }
}
