/**
 * The smallest size that a drive rewards: {@link choose}. Pure: what is measured, and the time, come from outside.
 *
 * ```text
 *   what the engine's search has found ──► sizes around it, in turns, round by round ──► the smallest that is as good as the best
 *                                            ▲ smaller ones, if the smallest is         │
 *                                            └ larger ones, if the largest is better ◄──┘
 * ```
 *
 * All sizes of a round run one after the other, and every other round runs backwards. So a drive that changes meanwhile changes
 * for all of them; what a round adds is taken out by a median polish. Up to the largest size that is not surely slower than the
 * best one, the estimates are made to rise with the size, by pooling neighbors that do not: so the best one is no accident of a
 * single size. Sizes that are surely too small are not measured again, which leaves the time to those that are in doubt.
 */

import { median } from '../../measure/statistics.ts'

/** What was measured of one size. */
export interface Measured {
  readonly size: number
  /** Rates of the rounds in which it ran, in their order. */
  readonly rates: readonly number[]
  /** Its rate by that of the best, as estimated; and after pooling, by which it is chosen. */
  readonly share: number
  readonly pooledShare: number
}

/** What was chosen. */
export interface Choice {
  readonly size: number
  readonly measured: readonly Measured[]
  readonly rounds: number
}

/** See {@link choose}. */
export interface Search {
  /** All sizes that there are, the smallest first. */
  readonly ladder: readonly number[]
  /** Where to begin. */
  readonly found: number
  /** The share of the best rate that is kept. */
  readonly kept: number
  /** The rate with a size. */
  readonly measure: (size: number) => Promise<number>
  /** Whether the time is over. */
  readonly isOver: () => boolean
  /** After each round. */
  readonly showRound?: (round: number) => void
}

/** Rounds that are made in any case, and at most. */
const ROUNDS_MIN = 3
const ROUNDS_MAX = 24

/** Sizes that are measured beside what was found, in steps of the ladder: below it, and above it. */
const STEPS = 2

/** Standard errors that are evidence. */
const EVIDENCE = 2

/** Of those in doubt, so many of the smallest are measured on, and the largest. */
const IN_DOUBT = 4

/** One round: the rate of each size. */
type Round = ReadonlyMap<number, number>

/** Finds the smallest size whose rate is at least `kept` of the best. */
export async function choose({ ladder, found, kept, measure, isOver, showRound }: Search): Promise<Choice> {
  const rounds: Round[] = []
  let active = around(ladder, found)
  // In every round, so that rounds with other sizes can be compared.
  const anchor = ladder.findLast((size) => size <= found) ?? (ladder[0] as number)
  for (;;) {
    const ordered = rounds.length % 2 === 0 ? active : active.toReversed()
    const round = new Map<number, number>()
    // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
    for (const size of ordered) round.set(size, await measure(size))
    rounds.push(round)
    showRound?.(rounds.length)
    if (rounds.length < ROUNDS_MIN) continue
    const { best, estimates } = estimate(rounds, anchor)
    const countOf = (size: number): number => rounds.filter((done) => done.has(size)).length
    // One that was added when the time was nearly over is not known well enough.
    const known = estimates.filter(({ size }) => countOf(size) >= ROUNDS_MIN)
    const limit = best + Math.log(kept)
    const chosen = known.find(({ level }) => level >= limit) ?? (known.at(-1) as Estimate)
    if (isOver() || rounds.length >= ROUNDS_MAX) {
      const most = Math.max(...known.map(({ raw }) => raw))
      const measured = known.map(({ size, raw, level }) => ({
        size,
        rates: rounds.flatMap((done) => done.get(size) ?? []),
        share: Math.exp(raw - most),
        pooledShare: Math.exp(level - best),
      }))
      return { size: chosen.size, measured, rounds: rounds.length }
    }
    if (active.every((size) => countOf(size) >= ROUNDS_MIN)) active = next(ladder, estimates, chosen, limit, anchor)
  }
}

/** What was found, its neighbors, and the largest size: what is to be as good as any other. */
function around(ladder: readonly number[], found: number): number[] {
  const at = Math.max(
    0,
    ladder.findLastIndex((size) => size <= found),
  )
  const near = ladder.slice(Math.max(0, at - STEPS), at + STEPS + 1)
  const top = ladder.at(-1) as number
  return near.includes(top) ? near : [...near, top]
}

/** The sizes of the next round: those in doubt, and smaller ones if the smallest that was measured is good enough. */
function next(
  ladder: readonly number[],
  estimates: readonly Estimate[],
  chosen: Estimate,
  limit: number,
  anchor: number,
): number[] {
  const doubtful = estimates.filter(({ level, error }) => level + EVIDENCE * error >= limit).map(({ size }) => size)
  const few = [...doubtful.slice(0, IN_DOUBT), doubtful.at(-1) as number]
  const first = estimates[0]?.size as number
  const at = ladder.indexOf(first)
  const below = chosen.size === first ? ladder.slice(Math.max(0, at - STEPS), at) : []
  // Between the neighbors of what was found and the largest size there can be a gap.
  const gap = ladder.filter(
    (size) => size < chosen.size && size > first && !estimates.some((known) => known.size === size),
  )
  return [...new Set([anchor, ...below, ...gap, ...few])].toSorted((a, b) => a - b)
}

interface Estimate {
  readonly size: number
  /** The logarithm of its rate, without what its rounds have added; and after pooling. */
  readonly raw: number
  readonly level: number
  /** Its standard error. */
  readonly error: number
}

/** The estimates of all sizes, the smallest first, and the best. The polish begins with what the anchor says. */
function estimate(
  rounds: readonly Round[],
  anchor: number,
): { readonly best: number; readonly estimates: readonly Estimate[] } {
  const sizes = [...new Set(rounds.flatMap((round) => [...round.keys()]))].toSorted((a, b) => a - b)
  const log = (round: Round, size: number): number => Math.log(Math.max(1, round.get(size) as number))
  const levels = new Map<number, number>()
  let offsets = rounds.map((round) => log(round, anchor))
  for (const size of sizes) levels.set(size, median(valuesOf(size)))
  for (let pass = 0; pass < 12; pass += 1) {
    offsets = rounds.map((round) =>
      median([...round.keys()].map((size) => log(round, size) - (levels.get(size) as number))),
    )
    for (const size of sizes) levels.set(size, median(valuesOf(size)))
  }
  function valuesOf(size: number): number[] {
    return rounds.flatMap((round, nth) => (round.has(size) ? [log(round, size) - (offsets[nth] as number)] : []))
  }
  const off = sizes.flatMap((size) => valuesOf(size).map((value) => Math.abs(value - (levels.get(size) as number))))
  // The median of absolute deviations, as the deviation of a normal distribution; a median has a quarter more of it than a mean.
  const noise = Math.max(0.002, median(off) * 1.48 * 1.25)
  const weights = sizes.map((size) => valuesOf(size).length)
  const raws = sizes.map((size) => levels.get(size) as number)
  const errors = weights.map((weight) => noise / Math.sqrt(weight))
  const most = Math.max(...raws)
  const last = raws.findLastIndex((raw, nth) => raw + EVIDENCE * (errors[nth] as number) >= most)
  const rising = pooled(raws.slice(0, last + 1), weights)
  const estimates = sizes.map((size, nth) => {
    const raw = raws[nth] as number
    return { size, raw, level: rising[nth] ?? raw, error: errors[nth] as number }
  })
  return { best: Math.max(...rising), estimates }
}

/** The nearest values that do not fall: neighbors that do are replaced by their mean (pool adjacent violators). */
function pooled(values: readonly number[], weights: readonly number[]): number[] {
  const pools: { mean: number; weight: number; count: number }[] = []
  for (const [nth, mean] of values.entries()) {
    pools.push({ mean, weight: weights[nth] as number, count: 1 })
    for (;;) {
      const [before, last] = pools.slice(-2)
      if (before === undefined || last === undefined || before.mean <= last.mean) break
      const weight = before.weight + last.weight
      const both = (before.mean * before.weight + last.mean * last.weight) / weight
      pools.splice(-2, 2, { mean: both, weight, count: before.count + last.count })
    }
  }
  return pools.flatMap(({ mean, count }) => Array.from({ length: count }, () => mean))
}
