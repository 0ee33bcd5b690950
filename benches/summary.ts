/**
 * One line per contender: the medians of all its runs in a benchmark, over all its comparisons. The
 * table and the charts show these medians. Figures are computed from the rounds instead.
 */

import { cpuSeconds, machineSeconds, type Outcome } from '../lib/measure/outcome.ts'
import type { Result, Scale } from './bench-context.ts'
import { median } from '../lib/measure/statistics.ts'

/** How a scale is printed. */
export interface Units {
  readonly speed: string
  readonly cpu: string
}

/** The units of each scale. */
export const UNITS: Readonly<Record<Scale, Units>> = {
  bytes: { speed: 'GB/s', cpu: 's/GB' },
  operations: { speed: 'k/s', cpu: 'µs each' },
  none: { speed: '', cpu: '' },
}

/** Speed and CPU of a contender's runs, in the scale's units. */
export interface Timing {
  readonly speed: number
  readonly slowest: number
  readonly fastest: number
  /** CPU of the process. */
  readonly cpu: number
  /** CPU of the machine less its idle noise. */
  readonly machine: number
}

/** A contender in a benchmark. */
export interface Summary {
  readonly name: string
  readonly configuration: string
  readonly ran: string
  readonly runs: number
  /** Null if the benchmark is not timed. */
  readonly timing: Timing | null
  readonly peakMiB: number
}

/** Summarizes a benchmark. `noise` is the machine's idle busy seconds per second. */
export function summarize(result: Result, noise: number): Summary[] {
  const outcomes = new Map<string, { configuration: string; runs: Outcome[] }>()
  for (const comparison of result.comparisons) {
    for (const { name, configuration } of comparison.contenders) {
      const entry = outcomes.get(name) ?? { configuration, runs: [] }
      outcomes.set(name, entry)
      for (const round of comparison.rounds) {
        const outcome = round.get(name)
        if (outcome !== undefined) entry.runs.push(outcome)
      }
    }
  }
  return [...outcomes].flatMap(([name, { configuration, runs }]) =>
    runs.length === 0 ? [] : [line(name, configuration, runs, result.scale, noise)],
  )
}

function line(name: string, configuration: string, runs: readonly Outcome[], scale: Scale, noise: number): Summary {
  return {
    name,
    configuration,
    ran: runs.at(-1)!.ran ?? '',
    runs: runs.length,
    timing: scale === 'none' ? null : timing(runs, scale, noise),
    peakMiB: Math.max(...runs.map(({ peakBytes }) => peakBytes)) / 2 ** 20,
  }
}

function timing(runs: readonly Outcome[], scale: 'bytes' | 'operations', noise: number): Timing {
  // GB and seconds per GB, or thousands of requests and microseconds per request.
  const [amount, unit, perUnit] =
    scale === 'bytes' ? [({ bytes }: Outcome) => bytes, 1e9, 1e9] : [({ operations }: Outcome) => operations, 1e3, 1e6]
  const speeds = runs.map((outcome) => amount(outcome) / unit / outcome.wallSeconds)
  const per = (seconds: (outcome: Outcome) => number): number =>
    median(runs.map((outcome) => (seconds(outcome) / amount(outcome)) * perUnit))
  return {
    speed: median(speeds),
    slowest: Math.min(...speeds),
    fastest: Math.max(...speeds),
    cpu: per(cpuSeconds),
    machine: per((outcome) => machineSeconds(outcome, noise)),
  }
}

/** Everything that could not run, each reason once. */
export function missing(result: Result): string[] {
  return [...new Set(result.comparisons.flatMap((comparison) => [...comparison.missing.values()]))]
}

/** deepring's contenders that ran on another path than their figures are about. */
export function downgrades(lines: readonly Summary[]): string[] {
  return lines.flatMap(({ name, ran }) => {
    if (!name.startsWith('deepring') || ran === '') return []
    const wanted = name === 'deepring threads' ? 'threads, direct' : 'uring, direct'
    return ran === wanted ? [] : [`${name} ran on "${ran}", not "${wanted}"; \`info()\` reports why`]
  })
}
