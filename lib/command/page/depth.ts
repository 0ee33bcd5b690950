/** The rate by the number of requests in flight. */

import type { Rate, TaskFigures } from '../bench/figures.ts'
import { digits } from '../text.ts'
import { html, type Html } from './html.ts'
import { KNEE_SHARE, kneeOf, type Knee } from './knee.ts'
import { lineChart, type Point, type Series } from './line-chart.ts'
import { section, type Table } from './parts.ts'
import { fromZero, powersOfTwo } from './scale.ts'
import { durationText, percentText } from './units.ts'

interface Deep extends TaskFigures {
  readonly depth: number
}

/** See the module. Of one depth there is only the table. */
export function depthSection(tasks: readonly TaskFigures[]): Html | undefined {
  const requests = tasks.filter(({ unit }) => unit === 'k/s')
  if (requests.length === 0) return undefined
  const deep = requests.filter((task): task is Deep => task.depth !== undefined).toSorted((a, b) => a.depth - b.depth)
  const knee = kneeOf(deep)
  if (knee === undefined)
    return section('Small reads', 'Requests of 4 KiB at random, in thousands per second.', captionOf(requests), [
      tableOf(requests),
    ])
  const depths = deep.map(({ depth }) => depth)
  const [least, most] = [Math.min(...depths), Math.max(...depths)]
  const series = [lineOf('deepring', 'ours', deep, ({ rate }) => rate), ...rivalLines(deep)]
  const highest = Math.max(...series.flatMap(({ points }) => points.map(({ y, upper = y }) => Math.max(y, upper))))
  return section(
    'Small reads, by how many are in flight',
    findingOf(deep, knee),
    html`${lineChart({
      label: `Thousands of reads per second, with ${least} to ${most} in flight. ${findingOf(deep, knee)}`,
      across: { title: 'reads of 4 KiB in flight', scale: () => powersOfTwo(least, most, 9, String) },
      up: { title: 'thousands per second', scale: fromZero(highest, 5) },
      series,
      marks: [{ x: knee.depth, kind: 'ours', words: markWords(knee) }],
    })}
    ${captionOf(requests)}`,
    [tableOf(requests)],
  )
}

function markWords({ depth, share, isLast }: Knee): string {
  return isLast ? `still growing at ${depth}` : `knee at ${depth}: ${percentText(share)} of the best`
}

function findingOf(tasks: readonly Deep[], { depth, share, isLast }: Knee): string {
  const best = tasks.toSorted((a, b) => b.rate.median - a.rate.median)[0] as Deep
  const top = `${digits(best.rate.median)} thousand per second with ${best.depth}`
  if (isLast) return `The rate still grows at the largest number that was measured: ${top}.`
  return `The knee, where ${percentText(KNEE_SHARE)} of the best rate is first reached, is at ${depth} in flight (${percentText(share)}). The best is ${top}.`
}

function lineOf(name: string, kind: string, tasks: readonly Deep[], rateIn: (task: Deep) => Rate | undefined): Series {
  const points = tasks.flatMap((task): Point[] => {
    const rate = rateIn(task)
    if (rate === undefined) return []
    const { median, lower, upper } = rate
    const words = `${name}, ${task.depth} in flight: ${digits(median)} k/s (${digits(lower)} to ${digits(upper)})`
    return [{ x: task.depth, y: median, lower, upper, words }]
  })
  return { name, kind, points }
}

/** A rival that was measured at one depth only has no line. */
function rivalLines(tasks: readonly Deep[]): Series[] {
  const rateOf = (task: Deep): Rate | undefined => task.rivals.find(({ name }) => name === 'fio')?.rate
  const series = lineOf('fio', 'fio', tasks, rateOf)
  return series.points.length < 2 ? [] : [series]
}

/** What the names of tasks mean. */
function captionOf(tasks: readonly TaskFigures[]): Html {
  const others = tasks.filter(({ depth }) => depth === undefined).map(({ name, what }) => `${name}: ${what}`)
  const deep = others.length === tasks.length ? [] : ['random-N: 4 KiB at random, N at once']
  return html`<p class="caption">${[...deep, ...others].join('; ')}.</p>`
}

function tableOf(tasks: readonly TaskFigures[]): Table {
  return {
    name: 'The numbers',
    head: ['task', 'k/s', 'interval', 'warm-up', 'p50', 'p99', 'p99.9', 'fio k/s', 'of fio', 'path'],
    sides: '<>>>>>>>><',
    rows: tasks.map(({ name, rate, p50Us, p99Us, p999Us, fio, shareOfFio, ran }) => [
      name,
      digits(rate.median),
      `${digits(rate.lower)} to ${digits(rate.upper)}`,
      digits(rate.warmUp),
      optional(p50Us),
      optional(p99Us),
      optional(p999Us),
      fio === undefined ? '' : digits(fio),
      shareOfFio === undefined ? '' : percentText(shareOfFio),
      ran,
    ]),
  }
}

function optional(us: number | undefined): string {
  return us === undefined ? '' : durationText(us)
}
