/**
 * t_q of whole sets of lists, as calibration finds it from the scales of each list's true top k.
 */
import { criticalScale, documentScales } from "../lib/certify/critical-scale.js";
import type { ExitHead } from "../lib/exit/rule.js";
import type { Trajectory } from "../lib/exit/trajectory.js";

/** [lists] float32. */
export function criticalScales(
  exits: readonly ExitHead[],
  lists: readonly Trajectory[],
  layers: readonly number[],
  k: number,
): Float32Array {
  return Float32Array.from(lists, (list) => criticalScale(documentScales(exits, list, layers, [k]).get(k)!));
}
