/** What the engine keeps in flight, over the time of a bench. */

import type { WindowSample } from '../bench/window.ts'
import { binaryText, digits } from '../text.ts'
import type { Html } from './html.ts'
import { lineChart, type Series } from './line-chart.ts'
import { section } from './parts.ts'
import { fromZero, powersOfTwo } from './scale.ts'

const LINES = [
  ['reads', 'ours', 'readBytes'],
  ['writes', 'node', 'writeBytes'],
  ['reads, shared', 'ours shared', 'readSharedBytes'],
  ['writes, shared', 'node shared', 'writeSharedBytes'],
] as const

/** See the module. Without a search there is nothing to show. */
export function windowSection(samples: readonly WindowSample[]): Html | undefined {
  const [first, last] = [samples[0], samples.at(-1)]
  if (first === undefined || last === undefined) return undefined
  const series = LINES.map(([name, kind, key]): Series => ({
    name,
    kind,
    points: samples.map((sample) => ({ x: sample.seconds, y: sample[key] })),
  }))
  const values = series.flatMap(({ points }) => points.map(({ y }) => y))
  const finding =
    `For one file that has the device alone, the engine ended with ${binaryText(last.readBytes)} of reads and ${binaryText(last.writeBytes)} of writes in flight; ` +
    `it began with ${binaryText(first.readBytes)} and ${binaryText(first.writeBytes)}. It searches for the least that is within 2 % of the best rate, and where ` +
    `several share the device (dotted), within 5 %.`
  return section(
    'The search for the window',
    finding,
    lineChart({
      label: `Bytes in flight over time. ${finding}`,
      across: { title: 'seconds', scale: ({ name }) => fromZero(last.seconds, name === 'wide' ? 8 : 4) },
      up: { title: 'bytes in flight', scale: powersOfTwo(Math.min(...values), Math.max(...values), 9, binaryText) },
      series,
      steps: true,
    }),
    [
      {
        name: 'The numbers',
        head: ['seconds', 'reads', 'reads, shared', 'writes', 'writes, shared'],
        sides: '>>>>>',
        rows: samples.map(({ seconds, readBytes, readSharedBytes, writeBytes, writeSharedBytes }) => [
          digits(seconds),
          ...[readBytes, readSharedBytes, writeBytes, writeSharedBytes].map(binaryText),
        ]),
      },
    ],
  )
}
