/** What a GB costs of the processor: apart for streams and for requests of 4 KiB, which cost a hundred times as much. */

import type { TaskFigures } from '../bench/figures.ts'
import { PAGE_BYTES } from '../../measure/positions.ts'
import { digits } from '../text.ts'
import { barChart, type BarGroup } from './bar-chart.ts'
import { html, type Html } from './html.ts'
import { section } from './parts.ts'
import { barsOf, named, partiesOf } from './tasks.ts'

/** Depths that stand for the others. */
const DEPTHS: ReadonlySet<number | undefined> = new Set([1, 32, 128, undefined])

/** See the module. */
export function cpuSection(tasks: readonly TaskFigures[]): Html | undefined {
  const streams = tasks.filter(({ unit }) => unit === 'GB/s')
  // Most of the bytes of `latency` are those of its stream.
  const requests = tasks.filter(({ unit, name, depth }) => unit === 'k/s' && name !== 'latency' && DEPTHS.has(depth))
  if (streams.length + requests.length === 0) return undefined
  return section(
    'CPU for a GB',
    findingOf(tasks),
    [chartOf('Large files', streams), chartOf('Requests of 4 KiB', requests)],
    [
      {
        name: 'The numbers',
        head: ['task', 'by', 'CPU s/GB', 'CPU µs per request'],
        sides: '<<>>',
        rows: [...streams, ...requests].flatMap((task) =>
          partiesOf(task).map(({ name, cpuSecondsPerGB }) => [
            task.name,
            name,
            digits(cpuSecondsPerGB),
            task.unit === 'k/s' ? digits((cpuSecondsPerGB * PAGE_BYTES) / 1e3) : '',
          ]),
        ),
      },
    ],
  )
}

function chartOf(what: string, tasks: readonly TaskFigures[]): Html | undefined {
  if (tasks.length === 0) return undefined
  const most = Math.max(...tasks.flatMap((task) => partiesOf(task).map(({ cpuSecondsPerGB }) => cpuSecondsPerGB)))
  // Streams cost thousandths of a second.
  const [factor, unit] = most < 2 ? [1e3, 'milliseconds'] : [1, 'seconds']
  const groups = tasks.map((task): BarGroup => ({
    name: task.name,
    bars: barsOf(task, ({ cpuSecondsPerGB }) => ({
      value: cpuSecondsPerGB * factor,
      words: digits(cpuSecondsPerGB * factor),
    })),
  }))
  const title = `CPU ${unit} per GB`
  return html`<h3>${what}</h3>
    ${barChart({ label: `${title}, of ${what.toLowerCase()}`, title, groups })}`
}

function findingOf(tasks: readonly TaskFigures[]): string {
  const read = named(tasks, 'read')
  if (read === undefined) return 'What the process spends, in user mode and in the kernel, on each 10⁹ bytes.'
  const others = read.rivals.map(
    ({ name, cpuSecondsPerGB }) => `${name} takes ${digits(cpuSecondsPerGB / read.cpuSecondsPerGB)} times as much`,
  )
  const mine = `To read a GB costs ${digits(read.cpuSecondsPerGB * 1e3)} milliseconds of CPU`
  return others.length === 0 ? `${mine}.` : `${mine}; ${others.join(', ')}.`
}
