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

/** A range that has the true median with some confidence. */
export interface Interval {
  readonly lower: number
  readonly upper: number
  /** Between 0 and 1. */
  readonly confidence: number
}

/**
 * The narrowest range between two of the values, equally far from both ends, that has the median of what they are drawn from with
 * at least this confidence; of fewer than six values all of them, with less. Assumes no shape of their distribution: each value
 * is below the median or above it, as a coin falls.
 */
export function interval(values: readonly number[], wanted = 0.95): Interval {
  const sorted = values.toSorted((a, b) => a - b)
  let rank = 1
  while (rank + 1 <= sorted.length / 2 && coverage(sorted.length, rank + 1) >= wanted) rank += 1
  return { lower: sorted[rank - 1]!, upper: sorted.at(-rank)!, confidence: coverage(sorted.length, rank) }
}

/** How probable it is that of `count` coins at least `rank` fall on each side. */
function coverage(count: number, rank: number): number {
  let [ways, outside] = [1, 0]
  for (let heads = 0; heads < rank; heads += 1) {
    outside += ways
    ways = (ways * (count - heads)) / (heads + 1)
  }
  return Math.max(0, 1 - (2 * outside) / 2 ** count)
}

/** How sure it is that the median of what these values are drawn from is at least `bar`: between 0 and 1, by the test of signs. */
export function confidenceAbove(values: readonly number[], bar: number): number {
  const reached = values.filter((value) => value >= bar).length
  // The probability that at least so many coins of all fall on one side.
  let [ways, chance] = [1, 0]
  for (let heads = 0; heads <= values.length; heads += 1) {
    if (heads >= reached) chance += ways
    ways = (ways * (values.length - heads)) / (heads + 1)
  }
  return 1 - chance / 2 ** values.length
}
