/**
 * deepring reads 4 KiB of one file at a time while it streams another: beside a stream of 4 MiB
 * reads, or behind a backlog of reads that were all made before.
 */

import { PerformanceObserver, type PerformanceEntry } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { allocate, Engine } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { PAGE_BYTES, positions } from '../../lib/measure/positions.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type LatencyParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const BLOCK_BYTES = 4 * 2 ** 20
/** Reads of the stream that are queued: more than any window takes. */
const QUEUED = 64

const { file, bytes, other, otherBytes, window, priority, seconds, backlogs, repeats, order, seed, source } =
  parameters<LatencyParameters>()
const engine = new Engine(window === 'fixed' ? { window, inFlightBytes: 64 * 2 ** 20 } : {})
const large = await engine.open(file, 'r')
const small = await engine.open(other, 'r', { priority })
const memory = engine.allocate(QUEUED * BLOCK_BYTES).fill(0x5a)
const page = engine.allocate(PAGE_BYTES)
const places = positions(100_000, otherBytes, order)
let ran = ''
let reads = 0

/** The milliseconds that one small read takes. */
async function readSmall(): Promise<number> {
  const started = performance.now()
  const { receipt } = await small.read(page, { position: places[reads++ % places.length]! })
  if (ran === '') ran = ranOf(receipt)
  return performance.now() - started
}

const quantile = (values: readonly number[], share: number): number =>
  values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? NaN

/** Streams the large file until `isOver`. Returns the bytes moved. */
async function stream(isOver: () => boolean): Promise<number> {
  let next = 0
  let moved = 0
  const lane = async (index: number): Promise<void> => {
    const block = memory.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)
    while (!isOver()) {
      const position = next
      next = (next + BLOCK_BYTES) % bytes
      // oxlint-disable-next-line no-await-in-loop -- a lane has one read in flight
      const { bytesRead } = await large.read(block, { position })
      moved += bytesRead
    }
  }
  await Promise.all(Array.from({ length: QUEUED }, (_, index) => lane(index)))
  return moved
}

/** The pauses of the garbage collector. */
const pauses: PerformanceEntry[] = []
const collector = new PerformanceObserver((list) => void pauses.push(...list.getEntries()))
collector.observe({ entryTypes: ['gc'] })

/** The milliseconds between two moments that the garbage collector took. */
async function collectedMs(from: number, to: number): Promise<number> {
  // The observer tells of a pause in a later turn of the event loop.
  await nextTurn()
  const inside = pauses.map((pause) => Math.min(to, pause.startTime + pause.duration) - Math.max(from, pause.startTime))
  pauses.length = 0
  return inside.reduce((sum, took) => sum + Math.max(0, took), 0)
}

const extra: Record<string, number> = {}
const meter = new Meter()
let over = false
const until = performance.now() + seconds * 1e3
const streaming = stream(() => over)
const took: number[] = []
if (order === 0) await new Promise((resolve) => void setTimeout(resolve, seconds * 1e3))
// oxlint-disable-next-line no-await-in-loop -- one small read at a time, as the figure says
else while (performance.now() < until) took.push(await readSmall())
over = true
const moved = await streaming
const outcome = meter.stop(moved, moved / BLOCK_BYTES)
extra['p50Ms'] = quantile(took, 0.5)
extra['p99Ms'] = quantile(took, 0.99)
extra['reads'] = took.length

for (const [name, length, count] of backlogs) {
  const behind: number[] = []
  const collected: number[] = []
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    const target = allocate(length)
    const queued = Array.from({ length: count }, (_, index) =>
      large.read(target, { position: (index * length) % bytes }),
    )
    const from = performance.now()
    // oxlint-disable-next-line no-await-in-loop -- one backlog at a time
    behind.push(await readSmall())
    const to = performance.now()
    // oxlint-disable-next-line no-await-in-loop -- as above
    await Promise.all(queued)
    // oxlint-disable-next-line no-await-in-loop -- as above
    collected.push(await collectedMs(from, to))
    target[Symbol.dispose]()
  }
  extra[name] = quantile(behind, 0.5)
  const rest = behind.map((waited, index) => waited - (collected[index] ?? 0))
  extra[`${name}LessCollector`] = quantile(rest, 0.5)
}
collector.disconnect()
if (reads > 0) new Tiles(source).check(page, { origin: 0, seed }, places[(reads - 1) % places.length])
await large.close()
await small.close()
await engine.close()
report({ ...outcome, ran, extra })
