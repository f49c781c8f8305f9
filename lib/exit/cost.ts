/**
 * What a layer costs: floating-point operations of a block, of a peek, and of whole exit patterns.
 */

/** The sizes that decide the cost of an encoder block with full attention. */
export interface CostShape {
  readonly layers: number;
  /** H. */
  readonly hidden: number;
  /** F. */
  readonly intermediate: number;
}

/** A block on one sequence of n tokens: 2n(4H² + 2HF) for the projections, 4Hn² for attention. */
export function blockFlops({ hidden: H, intermediate: F }: CostShape, n: number): number {
  return 2 * n * (4 * H * H + 2 * H * F) + 4 * H * n * n;
}

/**
 * A peek: keys and values for all n tokens, everything else for the one scoring row. 4nH² + 4H² + 4Hn + 4HF. A
 * document that goes on re-uses all of it, so only those that stop pay a peek instead of a block.
 */
export function peekFlops({ hidden: H, intermediate: F }: CostShape, n: number): number {
  return 4 * n * H * H + 4 * H * H + 4 * H * n + 4 * H * F;
}

/** A document of n tokens that stops at `layer` (1-based): blocks below it, then the peek. */
export function stopFlops(shape: CostShape, n: number, layer: number): number {
  return (layer - 1) * blockFlops(shape, n) + peekFlops(shape, n);
}

/** FLOPs of a list whose documents stopped at `exitLayers`. Full depth is all of them at `shape.layers`. */
export function listFlops(shape: CostShape, tokens: ArrayLike<number>, exitLayers: ArrayLike<number>): number {
  let sum = 0;
  for (let d = 0; d < tokens.length; d++) sum += stopFlops(shape, tokens[d]!, exitLayers[d]!);
  return sum;
}

/** FLOPs of a list at full depth: the fair baseline, which peeks at the last layer too. */
export function fullFlops(shape: CostShape, tokens: ArrayLike<number>): number {
  let sum = 0;
  for (let d = 0; d < tokens.length; d++) sum += stopFlops(shape, tokens[d]!, shape.layers);
  return sum;
}
