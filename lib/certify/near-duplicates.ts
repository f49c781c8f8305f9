/**
 * Clusters texts that say nearly the same: MinHash over character shingles, checked by their exact Jaccard similarity.
 */

const SHINGLE = 4;
const THRESHOLD = 0.7;
/** 16 bands of 4 rows find a pair of similarity 0.7 with probability 0.99. */
const BANDS = 16;
const ROWS = 4;

/** Case, punctuation, width forms and spacing do not make a query another one. */
export function normalize(text: string): string {
  return text
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .trim();
}

/** Clusters of indices, each ascending, in order of their first index. Undefined texts are alone. */
export function nearDuplicates(texts: readonly (string | undefined)[]): number[][] {
  const parent = texts.map((_, i) => i);
  const find = (i: number): number => {
    let root = i;
    while (parent[root] !== root) root = parent[root]!;
    for (let at = i; parent[at] !== root; ) [at, parent[at]] = [parent[at]!, root];
    return root;
  };
  const shingled = texts.map((text) => (text === undefined ? undefined : shingles(normalize(text))));
  const buckets = new Map<string, number>();
  shingled.forEach((set, i) => {
    if (!set) return;
    const signature = minHash(set);
    for (let band = 0; band < BANDS; band++) {
      const key = `${band}:${signature.subarray(band * ROWS, (band + 1) * ROWS).join(",")}`;
      const other = buckets.get(key);
      if (other === undefined) buckets.set(key, i);
      else if (find(other) !== find(i) && jaccard(shingled[other]!, set) >= THRESHOLD) {
        const [low, high] = [find(other), find(i)].sort((a, b) => a - b) as [number, number];
        parent[high] = low;
      }
    }
  });
  const clusters = new Map<number, number[]>();
  texts.forEach((_, i) => {
    const root = find(i);
    const cluster = clusters.get(root);
    if (cluster) cluster.push(i);
    else clusters.set(root, [i]);
  });
  return [...clusters.values()];
}

/** Hashes of all runs of SHINGLE characters; the whole text where it is shorter. */
function shingles(text: string): Set<number> {
  const padded = ` ${text} `;
  const out = new Set<number>();
  for (let i = 0; i === 0 || i + SHINGLE <= padded.length; i++) {
    let hash = 0x811c9dc5;
    for (let j = i; j < Math.min(i + SHINGLE, padded.length); j++) {
      hash = Math.imul(hash ^ padded.charCodeAt(j), 0x01000193);
    }
    out.add(hash >>> 0);
  }
  return out;
}

function minHash(set: ReadonlySet<number>): Uint32Array {
  const signature = new Uint32Array(BANDS * ROWS).fill(0xffffffff);
  for (const shingle of set) {
    for (let i = 0; i < signature.length; i++) {
      // A different odd multiplier and a final mix make each row its own hash function.
      let hash = Math.imul(shingle ^ Math.imul(i + 1, 0x9e3779b1), 0x85ebca6b);
      hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
      hash = (hash ^ (hash >>> 16)) >>> 0;
      if (hash < signature[i]!) signature[i] = hash;
    }
  }
  return signature;
}

function jaccard(a: ReadonlySet<number>, b: ReadonlySet<number>): number {
  let both = 0;
  for (const each of a) if (b.has(each)) both++;
  return both / (a.size + b.size - both);
}
