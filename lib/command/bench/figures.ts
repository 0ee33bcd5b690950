/** The figures of a task, from the rounds of its comparison, and the table of all. */

import { cpuSeconds, type Outcome } from '../../measure/outcome.ts'
import type { Comparison } from '../../measure/rounds.ts'
import { interval, median, type Interval } from '../../measure/statistics.ts'
import type { Paint } from '../screen.ts'
import { digits, grid } from '../text.ts'
import type { Task } from './tasks.ts'

/** A rate over all rounds behind the one that warms up. */
export interface Rate extends Interval {
  readonly median: number
  /** Of the round that warms up. */
  readonly warmUp: number
  readonly rounds: readonly number[]
}

/** What was measured of a task. */
export interface TaskFigures {
  readonly name: string
  readonly what: string
  readonly unit: Task['unit']
  /** The path that ran: `uring, direct`. */
  readonly ran: string
  readonly rate: Rate
  /** CPU seconds of the process for 10^9 bytes. */
  readonly cpuSecondsPerGB: number
  /** Of requests, in microseconds; absent for streams. */
  readonly p50Us?: number
  readonly p99Us?: number
  readonly p999Us?: number
  /** The rate of the stream beside the requests. */
  readonly streamGBps?: number
  /** What fio reaches, in the same rounds; absent without it. */
  readonly fio?: number
  /** deepring's rate by that of fio, the median over the rounds. */
  readonly shareOfFio?: number
  /** Why there is no fio. */
  readonly fioMissing?: string
}

/** See {@link TaskFigures}. */
export function figuresOf({ name, what, unit }: Task, { rounds, missing }: Comparison): TaskFigures {
  const per = (outcome: Outcome): number =>
    unit === 'GB/s' ? outcome.bytes / outcome.wallSeconds / 1e9 : outcome.operations / outcome.wallSeconds / 1e3
  const mine = rounds.map((round) => round.get('deepring') as Outcome)
  const [first, ...measured] = mine as [Outcome, ...Outcome[]]
  const rates = measured.map(per)
  const extra = (key: string): number | undefined => {
    const values = measured.flatMap((outcome) => outcome.extra?.[key] ?? [])
    return values.length === 0 ? undefined : median(values)
  }
  const pairs = rounds.slice(1).flatMap((round): [Outcome, Outcome][] => {
    const theirs = round.get('fio')
    return theirs === undefined ? [] : [[round.get('deepring') as Outcome, theirs]]
  })
  const [p50, p99, p999, stream] = [extra('p50Ms'), extra('p99Ms'), extra('p999Ms'), extra('streamGBps')]
  const why = missing.get('fio')
  return {
    name,
    what,
    unit,
    ran: measured.at(-1)?.ran ?? '',
    rate: { median: median(rates), ...interval(rates), warmUp: per(first), rounds: rates },
    cpuSecondsPerGB: median(measured.map((outcome) => (cpuSeconds(outcome) / outcome.bytes) * 1e9)),
    ...(p50 === undefined ? {} : { p50Us: p50 * 1e3 }),
    ...(p99 === undefined ? {} : { p99Us: p99 * 1e3 }),
    ...(p999 === undefined ? {} : { p999Us: p999 * 1e3 }),
    ...(stream === undefined ? {} : { streamGBps: stream }),
    ...(pairs.length === 0
      ? {}
      : {
          fio: median(pairs.map(([, theirs]) => per(theirs))),
          shareOfFio: median(pairs.map(([ours, theirs]) => per(ours) / per(theirs))),
        }),
    ...(why === undefined ? {} : { fioMissing: why }),
  }
}

/** The table, and what its columns mean. */
export function reportLines(figures: readonly TaskFigures[], paint: Paint): string[] {
  const confidence = Math.min(...figures.map(({ rate }) => rate.confidence))
  const head = ['task', 'rate', '', 'interval', 'warm-up', 's/GB', 'p50 µs', 'p99', 'p99.9', 'of fio', 'path']
  const rows = figures.map((figure) => [
    figure.name,
    paint('bold', digits(figure.rate.median)),
    figure.unit,
    `${digits(figure.rate.lower)} to ${digits(figure.rate.upper)}`,
    digits(figure.rate.warmUp),
    digits(figure.cpuSecondsPerGB),
    optional(figure.p50Us),
    optional(figure.p99Us),
    optional(figure.p999Us),
    figure.shareOfFio === undefined ? '' : `${Math.round(figure.shareOfFio * 100)} %`,
    figure.ran + (figure.streamGBps === undefined ? '' : `; stream ${digits(figure.streamGBps)} GB/s`),
  ])
  const missing = new Set(figures.flatMap(({ fioMissing }) => fioMissing ?? []))
  return [
    ...grid([head.map((word) => paint('dim', word)), ...rows], '<><>>>>>>><'),
    '',
    ...grid(
      figures.map(({ name, what }) => [paint('dim', name), paint('dim', what)]),
      '<<',
    ),
    '',
    `rates are medians; the interval has the true median with ${Math.round(confidence * 100)} %; GB is 10^9 bytes, k/s thousands of requests`,
    ...missing,
  ]
}

function optional(value: number | undefined): string {
  return value === undefined ? '' : digits(value)
}
