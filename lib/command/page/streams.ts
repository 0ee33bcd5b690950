/** The rates of large files. */

import type { TaskFigures } from '../bench/figures.ts'
import { digits } from '../text.ts'
import { barChart, type BarGroup } from './bar-chart.ts'
import { html, type Html } from './html.ts'
import { section } from './parts.ts'
import { barsOf, named, partiesOf } from './tasks.ts'
import { percentText } from './units.ts'

/** What is written about these tasks. */
const SUBJECTS = { read: 'Reading a file', sync: 'Writing a new file that is on the drive at the end' }

/** See the module. */
export function streamSection(all: readonly TaskFigures[]): Html | undefined {
  const tasks = all.filter(({ unit }) => unit === 'GB/s')
  if (tasks.length === 0) return undefined
  const groups = tasks.map((task): BarGroup => ({
    name: task.name,
    bars: barsOf(task, ({ rate: { median, lower, upper } }) => ({
      value: median,
      lower,
      upper,
      words: digits(median),
    })),
  }))
  const label = `GB per second of ${tasks.map(({ name }) => name).join(', ')}`
  return section(
    'Large files',
    findingOf(tasks),
    html`${barChart({ label, title: 'GB per second', groups })}
      <p class="caption">${tasks.map(({ name, what }) => `${name}: ${what}`).join('; ')}.</p>`,
    [
      {
        name: 'The numbers',
        head: ['task', 'by', 'GB/s', 'interval', 'warm-up', 'CPU s/GB', 'of fio', 'path'],
        sides: '<<>>>>><',
        rows: tasks.flatMap(rowsOf),
      },
    ],
  )
}

function rowsOf(task: TaskFigures): string[][] {
  return partiesOf(task).map(({ name, rate, cpuSecondsPerGB }) => [
    task.name,
    name,
    digits(rate.median),
    `${digits(rate.lower)} to ${digits(rate.upper)}`,
    digits(rate.warmUp),
    digits(cpuSecondsPerGB),
    name === 'deepring' && task.shareOfFio !== undefined ? percentText(task.shareOfFio) : '',
    name === 'deepring' ? task.ran : '',
  ])
}

function findingOf(tasks: readonly TaskFigures[]): string {
  const sentences = Object.entries(SUBJECTS).flatMap(([name, subject]) => {
    const task = named(tasks, name)
    if (task === undefined) return []
    const shares = task.rivals.map(({ name: rival, share }) =>
      rival === 'fio' ? `${percentText(share)} of fio` : `${digits(share)} times ${rival}`,
    )
    const compared = shares.length === 0 ? '' : `, ${shares.join(' and ')}`
    return [`${subject} reaches ${digits(task.rate.median)} GB/s${compared}.`]
  })
  return sentences.length === 0 ? 'The rates of large files.' : sentences.join(' ')
}
