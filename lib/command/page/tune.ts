/** The page of `deepring tune`. */

import { resolve } from 'node:path'
import type { Cell, Found } from '../tune/direction.ts'
import type { TuneDocument } from '../tune/document.ts'
import { binaryText, bytesText, digits } from '../text.ts'
import { html, lines, type Html } from './html.ts'
import { lineChart, type Series } from './line-chart.ts'
import { figuresOf, section, type Figure, type Parts, type Table } from './parts.ts'
import { fromZero, powersOfTwo } from './scale.ts'
import { percentText, timeText } from './units.ts'

const DIRECTIONS = [
  ['read', 'reads', 'ours'],
  ['write', 'writes', 'node'],
] as const

/** See the module. */
export function tuneParts(document: TuneDocument): Parts {
  const { folder, fileSystem, device, kernel, version, backend, direct, aim, ioBytes, seconds, tunedAt, notes } =
    document
  const { bar, confidence, profile } = document
  const cache = direct ? 'past the page cache' : 'through the page cache'
  const written = profile === null ? 'No profile was written.' : `The profile is ${profile}: engines begin with it.`
  return {
    title: resolve(folder),
    when: timeText(tunedAt),
    words: [
      `deepring ${version} (${backend}, ${cache}) on ${fileSystem} on ${device}, kernel ${kernel}. Tuned for ${aim} in ${digits(seconds)} seconds, on a file of ${bytesText(ioBytes)} of random bytes.`,
      `With a confidence of ${Math.floor(confidence * 100)} %, both choices reach ${percentText(bar)} or more of the best rate that was measured. ${written}`,
    ],
    notes,
    figures: figuresOf(DIRECTIONS.flatMap(([key, name]) => headlines(name, document[key]))),
    sections: html`
      ${gridSection(document, {
        title: 'The rate by bytes in flight',
        words: 'One stream, with different windows in turns. The smallest that is as good as the best is chosen.',
        across: 'bytes in flight',
        up: 'GB per second',
        cells: ({ grid }) => grid.windows,
        chosen: ({ windowBytes }) => windowBytes,
        sizeText: binaryText,
        factor: 1,
      })}
      ${gridSection(document, {
        title: 'The rate by the size of blocks',
        words: 'With the window that was chosen. A larger block takes less of the processor.',
        across: 'bytes of a block',
        up: 'GB per second',
        cells: ({ grid }) => grid.blocks,
        chosen: ({ blockBytes }) => blockBytes,
        sizeText: binaryText,
        factor: 1,
      })}
      ${gridSection(document, {
        title: 'Requests of 4 KiB, by how many are in flight',
        words: 'Each at a random place.',
        across: 'requests in flight',
        up: 'thousands per second',
        cells: ({ grid }) => grid.small,
        chosen: ({ blocks }) => blocks,
        sizeText: String,
        factor: 1e-3,
      })}
      ${searchSection(document)}
      <section>
        <h2>For DeepSpeed</h2>
        <p>The section of its configuration that it reads.</p>
        <pre tabindex="0" role="region" aria-label="DeepSpeed">
${lines(JSON.stringify(document.deepSpeed, undefined, 2))}</pre>
      </section>
    `,
  }
}

function headlines(
  name: string,
  { windowBytes, gigabytesPerSecond, shareOfBest, blocks, requestsPerSecond }: Found,
): Figure[] {
  return [
    {
      name: `Window of ${name}`,
      value: binaryText(windowBytes),
      more: `${digits(gigabytesPerSecond)} GB/s, ${percentText(shareOfBest)} of the best`,
    },
    { name: `Small ${name} at once`, value: String(blocks), more: `${digits(requestsPerSecond / 1e3)} k/s at most` },
  ]
}

/** One part of the grid. */
interface Grid {
  readonly title: string
  readonly words: string
  readonly across: string
  readonly up: string
  readonly cells: (found: Found) => readonly Cell[]
  readonly chosen: (found: Found) => number
  readonly sizeText: (size: number) => string
  /** From the unit of the document to that of the axis. */
  readonly factor: number
}

function gridSection(document: TuneDocument, grid: Grid): Html | undefined {
  const { title, words, across, up, cells, chosen, sizeText, factor } = grid
  const all = DIRECTIONS.flatMap(([key]) => cells(document[key]))
  if (all.length === 0) return undefined
  const sizes = all.map(({ size }) => size)
  const series = DIRECTIONS.map(([key, name, kind]): Series => ({
    name,
    kind,
    points: cells(document[key])
      .toSorted((a, b) => a.size - b.size)
      .map(({ size, rate, lower, upper }) => ({
        x: size,
        y: rate * factor,
        lower: lower * factor,
        upper: upper * factor,
        words: `${name}, ${sizeText(size)}: ${digits(rate * factor)}`,
      })),
  })).filter(({ points }) => points.length > 0)
  const most = Math.max(...all.map(({ rate, upper }) => Math.max(rate, upper) * factor))
  const marks = DIRECTIONS.map(([key, name, kind]) => ({
    x: chosen(document[key]),
    kind,
    words: `${name}: ${sizeText(chosen(document[key]))}`,
  })).filter(({ x }) => x >= Math.min(...sizes) && x <= Math.max(...sizes))
  return section(
    title,
    words,
    lineChart({
      label: `${up} by ${across}. Chosen: ${marks.map((mark) => mark.words).join(', ')}`,
      across: { title: across, scale: () => powersOfTwo(Math.min(...sizes), Math.max(...sizes), 12, sizeText) },
      up: { title: up, scale: fromZero(most, 5) },
      series,
      marks,
    }),
    [tableOf(document, grid)],
  )
}

function tableOf(document: TuneDocument, { up, cells, chosen, sizeText, factor }: Grid): Table {
  return {
    name: 'The numbers',
    head: ['of', 'size', up, 'interval', 'of the best', 'rounds', 'choice'],
    sides: '<>>>>><',
    rows: DIRECTIONS.flatMap(([key, name]) =>
      cells(document[key]).map(({ size, rate, lower, upper, share, rounds }) => [
        name,
        sizeText(size),
        digits(rate * factor),
        `${digits(lower * factor)} to ${digits(upper * factor)}`,
        percentText(share),
        String(rounds),
        size === chosen(document[key]) ? 'chosen' : '',
      ]),
    ),
  }
}

/** Reads and writes are searched one after the other; each begins at zero here. */
function searchSection(document: TuneDocument): Html | undefined {
  const series = DIRECTIONS.map(([key, name, kind]): Series => ({
    name,
    kind,
    points: document[key].searched.steps.map(({ seconds, windowBytes }) => ({ x: seconds, y: windowBytes })),
  })).filter(({ points }) => points.some(({ y }) => y > 0))
  if (series.length === 0) return undefined
  const points = series.flatMap((one) => one.points)
  const [sizes, times] = [points.map(({ y }) => y), points.map(({ x }) => x)]
  const found = DIRECTIONS.map(([key, name]) => `${binaryText(document[key].searched.windowBytes)} for ${name}`)
  const finding = `Alone under a stream, it found ${found.join(' and ')} in this time.`
  return section(
    "The engine's own search",
    finding,
    lineChart({
      label: `Bytes in flight over time. ${finding}`,
      across: { title: 'seconds', scale: ({ name }) => fromZero(Math.max(...times), name === 'wide' ? 8 : 4) },
      up: { title: 'bytes in flight', scale: powersOfTwo(Math.min(...sizes), Math.max(...sizes), 9, binaryText) },
      series,
      steps: true,
    }),
    [
      {
        name: 'The numbers',
        head: ['of', 'seconds', 'bytes in flight'],
        sides: '<>>',
        rows: DIRECTIONS.flatMap(([key, name]) =>
          document[key].searched.steps.map(({ seconds, windowBytes }) => [
            name,
            digits(seconds),
            binaryText(windowBytes),
          ]),
        ),
      },
    ],
  )
}
