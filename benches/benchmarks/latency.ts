/**
 * `latency`: how long a 4 KiB read of one file takes beside a stream of another, and behind a
 * backlog of reads; and what the stream loses by it.
 *
 * The rival is deepring itself with a window that is fixed at 64 MiB.
 */

import type { LatencyParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import { figure, ratioFigure, type Bar, type Figure } from '../figure.ts'
import { comparison, runRounds, type Comparison, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const OTHER_BYTES = 256 * 2 ** 20
const ORDER = 11

/** Seconds of each stream. With all of a fixed window in flight before each, a read takes tens of milliseconds: some hundred of them. */
const SECONDS = 30

const BACKLOGS: LatencyParameters['backlogs'] = [
  ['behindLargeMs', 4 * 2 ** 20, 256],
  ['behindSmallMs', 4096, 100_000],
]
/** Over all rounds, some 200 reads behind each. */
const REPEATS = 25

/** The one benchmark. */
export const LATENCIES: readonly Benchmark[] = [{ name: 'latency-stream', run }]

type Variant = Pick<LatencyParameters, 'window' | 'priority' | 'seconds' | 'backlogs' | 'order'>

const VARIANTS: Readonly<Record<string, Variant>> = {
  alone: { window: 'auto', priority: 'throughput', seconds: SECONDS / 3, backlogs: [], order: 0 },
  fixed: { window: 'fixed', priority: 'throughput', seconds: SECONDS, backlogs: [], order: ORDER },
  deepring: { window: 'auto', priority: 'throughput', seconds: SECONDS, backlogs: BACKLOGS, order: ORDER },
  'deepring latency': { window: 'auto', priority: 'latency', seconds: SECONDS, backlogs: BACKLOGS, order: ORDER },
}

async function run(context: BenchContext): Promise<Result> {
  const { bytes, scratch, showProgress, rounds } = context
  const file = await scratch.file('read', bytes)
  const other = await scratch.file('other', OTHER_BYTES)
  const inEnvironment = fileEnvironment(context, 'read', file)
  const contenders = Object.entries(VARIANTS).map(([name, variant]): Contender => ({
    name,
    configuration: `window ${variant.window}, class ${variant.priority}${variant.order === 0 ? ', no small reads' : ''}`,
    run: () =>
      inEnvironment(({ path, seed }) =>
        runChild<LatencyParameters>('deepring-latency', {
          ...variant,
          file: path,
          bytes,
          other,
          otherBytes: OTHER_BYTES,
          repeats: REPEATS,
          seed,
          source: scratch.source,
        }),
      ),
  }))
  const group = comparison(contenders)
  await runRounds([group], rounds, showProgress)
  const figures = [
    p99(group, 'latency-default-p99', 'deepring', { ceiling: 0.25 }),
    p99(group, 'latency-class-p99', 'deepring latency', { ceiling: 0.05 }),
    ...(['deepring', 'deepring latency'] as const).map((of, index) =>
      ratioFigure(group, {
        name: ['latency-default-stream', 'latency-class-stream'][index]!,
        of,
        against: 'alone',
        metric: 'speed',
        floor: 0.9,
      }),
    ),
    behind(group, 'latency-default-behind-large', 'deepring', 'behindLargeMs', { ceiling: 10 }),
    behind(group, 'latency-default-behind-small', 'deepring', 'behindSmallMs', { ceiling: 10 }),
    behind(group, 'latency-class-behind-large', 'deepring latency', 'behindLargeMs', { ceiling: 5 }),
    behind(group, 'latency-class-behind-small', 'deepring latency', 'behindSmallMs', { ceiling: 5 }),
    lessCollector(group, 'latency-default-behind-small-less-gc', 'deepring'),
    lessCollector(group, 'latency-class-behind-small-less-gc', 'deepring latency'),
  ]
  return {
    name: 'latency-stream',
    title: 'Reading 4 KiB of another file beside a stream',
    scale: 'bytes',
    sweeps: [],
    comparisons: [group],
    figures,
  }
}

/** p99 of the small reads against that with a fixed window. */
function p99(group: Comparison, name: string, of: string, bar: Bar): Figure {
  const values = group.rounds.flatMap((round) => {
    const mine = round.get(of)?.extra?.['p99Ms']
    const theirs = round.get('fixed')?.extra?.['p99Ms']
    return mine === undefined || theirs === undefined ? [] : [mine / theirs]
  })
  const reason = group.missing.get(of) ?? group.missing.get('fixed')
  return figure(name, `p99 of a 4 KiB read beside a stream, ${of} / fixed`, 'x', bar, values, reason)
}

/** The median of the reads behind a backlog. */
function behind(group: Comparison, name: string, of: string, key: string, bar: Bar): Figure {
  const values = group.rounds.flatMap((round) => round.get(of)?.extra?.[key] ?? [])
  const backlog = BACKLOGS.find(([backlogKey]) => backlogKey === key)
  const meaning = `4 KiB read behind ${backlog?.[2]} reads of ${backlog?.[1]} bytes of another file, ${of}`
  return figure(name, meaning, 'ms', bar, values, group.missing.get(of))
}

/**
 * The same less the pauses of the garbage collector within each read: it copies the hundred thousand promises of the
 * backlog while the read waits.
 */
function lessCollector(group: Comparison, name: string, of: string): Figure {
  const values = group.rounds.flatMap((round) => round.get(of)?.extra?.['behindSmallMsLessCollector'] ?? [])
  const meaning = `4 KiB read behind 100000 reads of 4096 bytes of another file, less pauses of the garbage collector, ${of}`
  return figure(name, meaning, 'ms', {}, values, group.missing.get(of))
}
