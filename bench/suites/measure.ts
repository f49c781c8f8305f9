/**
 * Benchmark.js in one call: how long one run of a function takes.
 */
import Benchmark from "benchmark";

export interface Measured {
  /** Of one call: the median of Benchmark.js's samples. */
  readonly seconds: number;
  readonly samples: number;
}

/** Times a synchronous function. */
export function measure(run: () => void, maxTime = 0.5): Measured {
  const bench = new Benchmark(run, { maxTime, minSamples: 5 });
  bench.run();
  return result(bench);
}

/** Times an asynchronous function, one call at a time. */
export function measureAsync(run: () => Promise<unknown>, { maxTime = 5, minSamples = 5 } = {}): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const bench = new Benchmark({
      ...{ defer: true, async: true, maxTime, minSamples, initCount: 1 },
      fn: (deferred: { resolve(): void }) => {
        run().then(() => deferred.resolve(), reject);
      },
      onComplete: () => resolve(result(bench)),
    });
    bench.run();
  });
}

function result({ stats, error }: Benchmark): Measured {
  if (error) throw error;
  const sorted = [...stats.sample].sort((a, b) => a - b);
  return { seconds: sorted[sorted.length >> 1]!, samples: sorted.length };
}
