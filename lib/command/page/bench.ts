/** The page of `deepring bench`. */

import { resolve } from 'node:path'
import type { BenchDocument } from '../bench/document.ts'
import type { TaskFigures } from '../bench/figures.ts'
import { bytesText, countText, digits } from '../text.ts'
import { cpuSection } from './cpu.ts'
import { depthSection } from './depth.ts'
import { html } from './html.ts'
import { kneeOf } from './knee.ts'
import { latencySection } from './latency.ts'
import { machineInFull, machineWords } from './machine.ts'
import { figuresOf, type Figure, type Parts } from './parts.ts'
import { streamSection } from './streams.ts'
import { named } from './tasks.ts'
import { durationOf, durationText, percentText, timeText } from './units.ts'
import { windowSection } from './window.ts'

/** See the module. */
export function benchParts(document: BenchDocument): Parts {
  const { measuredAt, folder, machine, notes, tasks, window } = document
  return {
    title: resolve(folder),
    when: timeText(measuredAt),
    words: [machineWords(machine), howWords(document)],
    notes,
    figures: figuresOf(headlines(tasks)),
    sections: html`
      ${streamSection(tasks)} ${depthSection(tasks)} ${latencySection(tasks)} ${cpuSection(tasks)}
      ${windowSection(window)}
      <section>
        <h2>The machine in full</h2>
        <details>
          <summary>What <code>deepring info</code> prints</summary>
          ${machineInFull(machine)}
        </details>
      </section>
    `,
    footer: definitions(document),
  }
}

function howWords({ inMemory, ioBytes, loops, seconds, fio, idleNoise, handle }: BenchDocument): string {
  const files = `files of ${bytesText(ioBytes)} of random bytes${inMemory ? ' in memory' : ''}`
  const rival = fio === null ? '' : `, with ${fio.replace('-', ' ')} beside it`
  const through = handle === null ? '' : ' Streams went through an AioHandle with limits of its own.'
  return (
    `${countText(loops, 'round')} after one that warms up, on ${files}${rival}, in ${digits(seconds)} seconds. ` +
    `Before, other processes used ${digits(idleNoise)} CPU seconds per second.${through}`
  )
}

function definitions({ tasks }: BenchDocument): string {
  const confidence = Math.min(...tasks.map(({ rate }) => rate.confidence))
  return (
    `Rates are medians over the rounds. An interval, and the thin line at a bar or a point, has the true median with ${Math.round(confidence * 100)} %. ` +
    'GB is 10⁹ bytes. Latencies are medians over the rounds of the percentile of each round. CPU is that of the process, in user mode and in the kernel.'
  )
}

function ofFio({ shareOfFio }: TaskFigures): string | undefined {
  return shareOfFio === undefined ? undefined : `${percentText(shareOfFio)} of fio`
}

/** What a reader looks for first. */
function headlines(tasks: readonly TaskFigures[]): Figure[] {
  const figures: Figure[] = []
  const [read, sync, one] = ['read', 'sync', 'random-1'].map((name) => named(tasks, name))
  if (read !== undefined)
    figures.push({ name: 'Read', value: digits(read.rate.median), unit: 'GB/s', more: ofFio(read) })
  if (sync !== undefined)
    figures.push({ name: 'New and flushed', value: digits(sync.rate.median), unit: 'GB/s', more: ofFio(sync) })
  const depths = tasks.filter(({ depth }) => depth !== undefined)
  const best = depths.toSorted((a, b) => b.rate.median - a.rate.median)[0]
  if (best !== undefined) {
    const knee = kneeOf(depths)
    const where = knee === undefined ? '' : knee.isLast ? ', still growing' : `; knee at ${knee.depth}`
    figures.push({
      name: '4 KiB at random',
      value: digits(best.rate.median),
      unit: 'k/s',
      more: `${best.depth} at once${where}`,
    })
  }
  if (one?.p99Us !== undefined && one.p50Us !== undefined)
    figures.push({ name: 'One of them, p99', ...durationOf(one.p99Us), more: `median ${durationText(one.p50Us)}` })
  if (read !== undefined)
    figures.push({ name: 'CPU for a GB read', value: digits(read.cpuSecondsPerGB * 1e3), unit: 'ms' })
  return figures
}
