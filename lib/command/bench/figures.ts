/** The figures of a task, from the rounds of its comparison, and the table of all. */

import { cpuSeconds, type Outcome } from '../../measure/outcome.ts'
import type { Comparison } from '../../measure/rounds.ts'
import { interval, median, type Interval } from '../../measure/statistics.ts'
import type { Paint } from '../screen.ts'
import { digits, grid } from '../text.ts'
import { latencyKey, PERCENTS, type Task } from './tasks.ts'

/** A rate over all rounds behind the one that warms up. */
export interface Rate extends Interval {
  readonly median: number
  /** Of the round that warms up. */
  readonly warmUp: number
  readonly rounds: readonly number[]
}

/** Of all requests of a round, so many percent took less, in microseconds. */
export interface Percentile {
  readonly percent: number
  readonly us: number
}

/** What another program reaches in the same rounds. */
export interface Rival {
  readonly name: string
  readonly rate: Rate
  readonly cpuSecondsPerGB: number
  /** deepring's rate by that of the rival, the median over the rounds. */
  readonly share: number
}

/** What was measured of a task. */
export interface TaskFigures {
  readonly name: string
  readonly what: string
  readonly unit: Task['unit']
  /** Requests in flight, where tasks differ in that alone. */
  readonly depth?: number
  /** The path that ran: `uring, direct`. */
  readonly ran: string
  readonly rate: Rate
  /** CPU seconds of the process for 10^9 bytes. */
  readonly cpuSecondsPerGB: number
  /** Of requests, in microseconds; absent for streams. */
  readonly p50Us?: number
  readonly p99Us?: number
  readonly p999Us?: number
  /** More of them, as far as a round has a request that took longer; absent for streams. */
  readonly percentiles?: readonly Percentile[]
  /** The rate of the stream beside the requests. */
  readonly streamGBps?: number
  /** What fio reaches, in the same rounds; absent without it. */
  readonly fio?: number
  /** deepring's rate by that of fio, the median over the rounds. */
  readonly shareOfFio?: number
  /** fio and node:fs, where they were measured. */
  readonly rivals: readonly Rival[]
  /** What could not be measured, and why. */
  readonly missing?: readonly string[]
}

/** See {@link TaskFigures}. */
export function figuresOf({ name, what, unit, depth }: Task, { contenders, rounds, missing }: Comparison): TaskFigures {
  const mine = rounds.map((round) => round.get('deepring') as Outcome)
  const measured = mine.slice(1)
  const extra = (key: string): number | undefined => {
    const values = measured.flatMap((outcome) => outcome.extra?.[key] ?? [])
    return values.length === 0 ? undefined : median(values)
  }
  const rivals = contenders.flatMap(({ name: rival }): Rival[] => {
    if (rival === 'deepring' || missing.has(rival)) return []
    const theirs = rounds.map((round) => round.get(rival) as Outcome)
    const shares = measured.map((ours, nth) => per(unit, ours) / per(unit, theirs[nth + 1] as Outcome))
    return [{ name: rival, rate: rateOf(unit, theirs), cpuSecondsPerGB: cpuOf(theirs), share: median(shares) }]
  })
  const fio = rivals.find((rival) => rival.name === 'fio')
  const [p50, p99, p999] = [50, 99, 99.9].map((percent) => extra(latencyKey(percent)))
  const [stream, samples = 0] = [extra('streamGBps'), extra('samples')]
  const percentiles = PERCENTS.filter((percent) => samples * (1 - percent / 100) >= 1).map((percent): Percentile => ({
    percent,
    us: (extra(latencyKey(percent)) as number) * 1e3,
  }))
  return {
    name,
    what,
    unit,
    ...(depth === undefined ? {} : { depth }),
    ran: measured.at(-1)?.ran ?? '',
    rate: rateOf(unit, mine),
    cpuSecondsPerGB: cpuOf(mine),
    ...(p50 === undefined ? {} : { p50Us: p50 * 1e3 }),
    ...(p99 === undefined ? {} : { p99Us: p99 * 1e3 }),
    ...(p999 === undefined ? {} : { p999Us: p999 * 1e3 }),
    ...(percentiles.length === 0 ? {} : { percentiles }),
    ...(stream === undefined ? {} : { streamGBps: stream }),
    ...(fio === undefined ? {} : { fio: fio.rate.median, shareOfFio: fio.share }),
    rivals,
    ...(missing.size === 0 ? {} : { missing: [...missing.values()] }),
  }
}

function per(unit: Task['unit'], { bytes, operations, wallSeconds }: Outcome): number {
  return unit === 'GB/s' ? bytes / wallSeconds / 1e9 : operations / wallSeconds / 1e3
}

/** The first round warms up. */
function rateOf(unit: Task['unit'], [first, ...measured]: readonly Outcome[]): Rate {
  const rates = measured.map((outcome) => per(unit, outcome))
  return { median: median(rates), ...interval(rates), warmUp: per(unit, first as Outcome), rounds: rates }
}

function cpuOf([, ...measured]: readonly Outcome[]): number {
  return median(measured.map((outcome) => (cpuSeconds(outcome) / outcome.bytes) * 1e9))
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
  const missing = new Set(figures.flatMap((figure) => figure.missing ?? []))
  return [
    ...grid([head.map((word) => paint('dim', word)), ...rows], '<><>>>>>>><'),
    '',
    ...grid(
      figures.map(({ name, what }) => [paint('dim', name), paint('dim', what)]),
      '<<',
    ),
    '',
    ...nodeLine(figures),
    `rates are medians; the interval has the true median with ${Math.round(confidence * 100)} %; GB is 10^9 bytes, k/s thousands of requests`,
    ...missing,
  ]
}

/** node:fs, which has no column: few tasks are measured with it. */
function nodeLine(figures: readonly TaskFigures[]): string[] {
  const parts = figures.flatMap(({ name, unit, rivals }) => {
    const node = rivals.find((rival) => rival.name === 'node:fs')
    if (node === undefined) return []
    return [`${name} ${digits(node.rate.median)} ${unit} with ${digits(node.cpuSecondsPerGB)} s/GB`]
  })
  return parts.length === 0 ? [] : [`node:fs, through the page cache: ${parts.join('; ')}`, '']
}

function optional(value: number | undefined): string {
  return value === undefined ? '' : digits(value)
}
