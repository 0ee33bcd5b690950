/** How long requests take, by percentile. */

import type { TaskFigures } from '../bench/figures.ts'
import type { Html } from './html.ts'
import { lineChart, type Series } from './line-chart.ts'
import { section } from './parts.ts'
import { decades, percents as percentScale } from './scale.ts'
import { durationText, roundDurationText } from './units.ts'

type Measured = TaskFigures & Required<Pick<TaskFigures, 'percentiles'>>

/** Lines of depths: more would lie on each other. */
const LINES_MAX = 4

/** See the module. */
export function latencySection(tasks: readonly TaskFigures[]): Html | undefined {
  const measured = tasks.filter((task): task is Measured => (task.percentiles?.length ?? 0) >= 2)
  const depths = spread(measured.filter(({ depth }) => depth !== undefined))
  const beside = measured.find(({ name }) => name === 'latency')
  const series: Series[] = [
    ...depths.map((task, nth) => lineOf(task, nth === 0 ? `${task.depth} at once` : String(task.depth), `d${nth + 1}`)),
    ...(beside === undefined ? [] : [lineOf(beside, '1 + stream', 'beside')]),
  ]
  if (series.length === 0) return undefined
  const values = series.flatMap(({ points }) => points.map(({ y }) => y))
  const shown = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))].toSorted((a, b) => a - b)
  const head = [...new Set(measured.flatMap(({ percentiles }) => percentiles.map(({ percent }) => percent)))]
  return section(
    'How long a read takes',
    findingOf(depths[0], beside),
    lineChart({
      label: `Duration of reads of 4 KiB by percentile: ${series.map(({ name }) => name).join(', ')}`,
      across: { title: 'share of reads that took less', scale: () => percentScale(shown) },
      up: { title: 'duration', scale: decades(Math.min(...values), Math.max(...values), roundDurationText) },
      series,
    }),
    [
      {
        name: 'The numbers',
        head: ['task', ...head.map((percent) => `p${percent}`)],
        sides: `<${'>'.repeat(head.length)}`,
        rows: measured.map((task) => rowOf(task, head)),
      },
    ],
  )
}

function rowOf({ name, percentiles }: Measured, percents: readonly number[]): string[] {
  const cells = percents.map((percent) => {
    const found = percentiles.find((row) => row.percent === percent)
    return found === undefined ? '' : durationText(found.us)
  })
  return [name, ...cells]
}

/** The first, the last, and some between them. */
function spread(tasks: readonly Measured[]): Measured[] {
  if (tasks.length <= LINES_MAX) return [...tasks]
  const step = (tasks.length - 1) / (LINES_MAX - 1)
  return Array.from({ length: LINES_MAX }, (_, nth) => tasks[Math.round(nth * step)] as Measured)
}

function lineOf({ what, percentiles }: Measured, name: string, kind: string): Series {
  const points = percentiles.map(({ percent, us }) => ({
    x: percent,
    y: us,
    words: `${what}: ${percent} % took less than ${durationText(us)}`,
  }))
  return { name, kind, points }
}

function findingOf(first: Measured | undefined, beside: Measured | undefined): string {
  const words = ({ p50Us = NaN, p99Us = NaN }: Measured): string =>
    `half of the reads take less than ${durationText(p50Us)}, and 99 of 100 less than ${durationText(p99Us)}`
  const sentences = [
    ...(first === undefined ? [] : [`With ${first.depth} in flight, ${words(first)}.`]),
    ...(beside === undefined
      ? []
      : [`Of one at a time beside a stream that uses the drive fully (“1 + stream”), ${words(beside)}.`]),
  ]
  return sentences.join(' ')
}
