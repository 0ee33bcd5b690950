/**
 * The few statistics a figure needs.
 *
 * Medians, because one slow run on a shared host means nothing. Ratios per round, because a disk
 * that is slow for a minute slows both neighbors, and their ratio stays the same.
 */

/** The spread of the rounds: the extremes and the middle half. */
export interface Spread {
  readonly min: number
  readonly lower: number
  readonly upper: number
  readonly max: number
}

/** The `q` quantile of the values, interpolated linearly between two neighbors. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) throw new RangeError('no values')
  const sorted = values.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const below = sorted[Math.floor(at)]!
  const above = sorted[Math.ceil(at)]!
  return below + (above - below) * (at - Math.floor(at))
}

/** The middle value, or the mean of the two middle ones. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

/** The spread of at least one value. */
export function spread(values: readonly number[]): Spread {
  return {
    min: Math.min(...values),
    lower: quantile(values, 0.25),
    upper: quantile(values, 0.75),
    max: Math.max(...values),
  }
}
