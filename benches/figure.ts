/**
 * A figure: one number the bench reports, with the bar it must reach.
 *
 * Most figures are the median, over all rounds, of a ratio between two contenders that ran next to
 * each other. If a contender did not run, the figure has no value and does not hold, because what
 * was not measured has not passed.
 */

import { cpuSeconds, type Outcome } from '../lib/measure/outcome.ts'
import { median, spread, type Spread } from '../lib/measure/statistics.ts'
import type { Comparison } from '../lib/measure/rounds.ts'

/**
 * The bar of a figure: at least, more than, or at most. Without one the figure is only reported.
 */
export interface Bar {
  readonly floor?: number
  /** The value must exceed the floor. */
  readonly exclusive?: boolean
  readonly ceiling?: number
}

/** One figure, measured. */
export interface Figure extends Bar {
  /** Stable name, for scripts. */
  readonly name: string
  /** What is divided by what, in words. */
  readonly meaning: string
  /** `x` for a ratio, else the unit. */
  readonly unit: string
  /** The median of the rounds; null if it could not be measured. */
  readonly value: number | null
  /** Whether the bar is reached; null if there is none. */
  readonly holds: boolean | null
  /** Rounds with a value. */
  readonly rounds: number
  readonly spread: Spread | null
  /** Why the value is missing. */
  readonly note?: string
}

/** A ratio between two contenders of one comparison. */
export interface Ratio extends Bar {
  readonly name: string
  readonly of: string
  readonly against: string
  readonly metric: 'speed' | 'cpu'
}

const METRIC = {
  speed: { per: (outcome: Outcome) => outcome.bytes / outcome.wallSeconds, word: 'speed' },
  cpu: { per: (outcome: Outcome) => cpuSeconds(outcome) / outcome.bytes, word: 'CPU seconds per byte' },
} as const

/** Whether a value reaches its bar. */
export function holds(value: number | null, bar: Bar): boolean | null {
  if (bar.floor === undefined && bar.ceiling === undefined) return null
  if (value === null || !Number.isFinite(value)) return false
  if (bar.ceiling !== undefined && value > bar.ceiling) return false
  if (bar.floor === undefined) return true
  return bar.exclusive === true ? value > bar.floor : value >= bar.floor
}

/** A figure from one value per round. */
export function figure(
  name: string,
  meaning: string,
  unit: string,
  bar: Bar,
  values: readonly number[],
  note?: string,
): Figure {
  const value = values.length === 0 ? null : median(values)
  return {
    name,
    meaning,
    unit,
    value,
    ...bar,
    holds: holds(value, bar),
    rounds: values.length,
    spread: values.length === 0 ? null : spread(values),
    ...(note === undefined ? {} : { note }),
  }
}

/** The figure of a ratio, from the rounds of its comparison. */
export function ratioFigure(comparison: Comparison, ratio: Ratio): Figure {
  const { name, of, against, metric, ...bar } = ratio
  const { per, word } = METRIC[metric]
  const meaning = `${word} of ${of} / ${against}`
  const reason = comparison.missing.get(of) ?? comparison.missing.get(against)
  if (reason !== undefined) return figure(name, meaning, 'x', bar, [], reason)
  const values = comparison.rounds.flatMap((round) => {
    const mine = round.get(of)
    const theirs = round.get(against)
    return mine === undefined || theirs === undefined ? [] : [per(mine) / per(theirs)]
  })
  return figure(name, meaning, 'x', bar, values)
}

/** A figure of one contender, from what `pick` finds in the outcome of each round. */
export function outcomeFigure(
  name: string,
  comparison: Comparison,
  of: string,
  meaning: string,
  unit: string,
  bar: Bar,
  pick: (outcome: Outcome) => number | undefined,
): Figure {
  const values = comparison.rounds.flatMap((round) => {
    const outcome = round.get(of)
    const value = outcome === undefined ? undefined : pick(outcome)
    return value === undefined ? [] : [value]
  })
  return figure(name, meaning, unit, bar, values, comparison.missing.get(of))
}

/** A figure of two contenders, from what `pick` makes of their outcomes in each round. */
export function pairFigure(
  name: string,
  comparison: Comparison,
  [of, against]: readonly [of: string, against: string],
  meaning: string,
  unit: string,
  bar: Bar,
  pick: (of: Outcome, against: Outcome) => number | undefined,
): Figure {
  const values = comparison.rounds.flatMap((round) => {
    const mine = round.get(of)
    const theirs = round.get(against)
    const value = mine === undefined || theirs === undefined ? undefined : pick(mine, theirs)
    return value === undefined ? [] : [value]
  })
  return figure(name, meaning, unit, bar, values, comparison.missing.get(of) ?? comparison.missing.get(against))
}
