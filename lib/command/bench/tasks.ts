/**
 * What is measured: {@link TASKS}.
 *
 * A task moves the bytes of a file, or makes requests for a while. Files are opened before the region that is timed, but for new
 * ones, and memory is touched before.
 */

import { rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { crc32c, type Engine, type FileHandle, type Receipt } from '../../../index.ts'
import type { AioHandle } from '../../aio/index.ts'
import { Meter } from '../../measure/meter.ts'
import type { Outcome } from '../../measure/outcome.ts'
import { PAGE_BYTES, positions } from '../../measure/positions.ts'
import type { Contender } from '../../measure/rounds.ts'
import { quantile } from '../../measure/statistics.ts'
import { positionsOf, type Place } from './place.ts'

/** What tasks work with. */
export interface Setup {
  readonly place: Place
  readonly engine: Engine
  /** What moves streams, if DeepNVMe's options were given. */
  readonly handle: AioHandle | undefined
  readonly signal: AbortSignal
  /** Whether what was read and written is compared, outside of the region that is timed. */
  readonly validates: boolean
}

/** A task. */
export interface Task {
  readonly name: string
  /** In a few words. */
  readonly what: string
  /** Of its rate: `GB/s`, or thousands of requests per second. */
  readonly unit: 'GB/s' | 'k/s'
  /** Requests in flight, where the task is one of several that differ in that alone. */
  readonly depth?: number
  /** What fio does in its place; absent if it can not. */
  readonly fio?: readonly string[]
  readonly run: (setup: Setup) => Promise<Outcome>
}

/** How long requests are made. */
const REGION_MS = 1000

/** The same at each depth: there are many of them. */
export const DEPTH_REGION_MS = 500

/** Requests of 4 KiB in flight: from where the drive waits for the program to where the program waits for the drive. */
const DEPTHS = [1, 2, 4, 8, 16, 32, 64, 128]

/** Of the durations of requests: so many of 100 were shorter. */
export const PERCENTS: readonly number[] = [50, 75, 90, 95, 99, 99.9, 99.99]

/** Ranges of one call of `readMany`. */
const RANGES = 1024

/** Requests of the stream that others wait behind: more than any window takes. */
const STREAM_LANES = 64
const STREAM_BLOCK_BYTES = 4 << 20

/** Seeds the order of random positions, the same in every run. */
export const ORDER = 7

const STREAM_FIO = ['--bs=1M', '--iodepth=32']

/** All tasks, in the order of the table. */
export const TASKS: readonly Task[] = [
  {
    name: 'read',
    what: 'one file, from beginning to end',
    unit: 'GB/s',
    fio: [...STREAM_FIO, '--rw=read'],
    run: async (setup) => {
      await using file = await setup.engine.open(setup.place.read, 'r')
      const outcome = await readAll(setup, file, new Meter())
      checkRead(setup)
      return outcome
    },
  },
  {
    name: 'overwrite',
    what: 'a file that has its space',
    unit: 'GB/s',
    fio: [...STREAM_FIO, '--rw=write'],
    run: async (setup) => {
      await using file = await setup.engine.open(setup.place.overwritten, 'r+')
      return checked(setup, file, await writeAll(setup, file, new Meter()))
    },
  },
  {
    name: 'new',
    what: 'a new file',
    unit: 'GB/s',
    fio: [...STREAM_FIO, '--rw=write'],
    run: (setup) => writeNew(setup, false),
  },
  {
    name: 'sync',
    what: 'a new file that is on the drive',
    unit: 'GB/s',
    fio: [...STREAM_FIO, '--rw=write', '--end_fsync=1'],
    run: (setup) => writeNew(setup, true),
  },
  ...DEPTHS.map((depth): Task => ({
    name: `random-${depth}`,
    what: `4 KiB at random, ${depth} at once`,
    unit: 'k/s',
    depth,
    fio: randomFio(depth, DEPTH_REGION_MS),
    run: (setup) => readRandomly(setup, depth),
  })),
  {
    name: 'many',
    what: `4 KiB at random, ${RANGES} in a call of readMany`,
    unit: 'k/s',
    fio: randomFio(128, REGION_MS),
    run: readManyAtOnce,
  },
  {
    name: 'mixed',
    what: 'one file is read, another overwritten',
    unit: 'GB/s',
    fio: [...STREAM_FIO, '--rw=rw', '--rwmixread=50'],
    run: readAndWrite,
  },
  { name: 'latency', what: '4 KiB at random beside a stream', unit: 'k/s', run: readBesideStream },
]

function randomFio(depth: number, regionMs: number): string[] {
  return [
    '--bs=4k',
    `--iodepth=${depth}`,
    '--rw=randread',
    '--norandommap=1',
    '--time_based=1',
    `--runtime=${regionMs}ms`,
  ]
}

/** A task as a contender of a comparison. */
export function taskContender({ name, run }: Task, setup: Setup): Contender {
  return { name: 'deepring', configuration: name, run: () => run(setup) }
}

/** The path that ran, as benches report it. */
function ranOf({ backend, direct }: Receipt): string {
  return `${backend}, ${direct ? 'direct' : 'buffered'}`
}

/** Moves all pieces of a file, two at a time, one in each piece of memory. */
async function inPieces(
  { place: { bytes, memory }, signal }: Setup,
  move: (slot: 0 | 1, position: number, length: number) => Promise<void>,
): Promise<void> {
  const piece = memory[0].length
  const places = positionsOf(bytes, piece)
  const lane = async (slot: 0 | 1): Promise<void> => {
    for (let nth: number = slot; nth < places.length; nth += 2) {
      signal.throwIfAborted()
      const position = places[nth] as number
      await move(slot, position, Math.min(piece, bytes - position))
    }
  }
  await Promise.all([lane(0), lane(1)])
}

async function readAll(setup: Setup, file: FileHandle, meter: Meter): Promise<Outcome> {
  const { place, handle, signal } = setup
  let ran = ''
  await inPieces(setup, async (slot, position, length) => {
    const view = place.into[slot].subarray(0, length)
    if (handle === undefined) ran = ranOf((await file.read(view, { position, exact: true, signal })).receipt)
    else await handle.pread(view, file, { fileOffset: position, signal })
  })
  return { ...meter.stop(place.bytes, Math.ceil(place.bytes / place.into[0].length)), ran }
}

async function writeAll(setup: Setup, file: FileHandle, meter: Meter, finish?: () => Promise<void>): Promise<Outcome> {
  const { place, handle, signal } = setup
  let ran = ''
  await inPieces(setup, async (slot, position, length) => {
    const view = place.memory[slot].subarray(0, length)
    if (handle === undefined) ran = ranOf((await file.write(view, { position, signal })).receipt)
    else await handle.pwrite(view, file, { fileOffset: position, signal })
  })
  await finish?.()
  return { ...meter.stop(place.bytes, Math.ceil(place.bytes / place.memory[0].length)), ran }
}

/** The length of a piece, and the CRC-32C of its bytes. */
function pieceOf({ bytes, memory, sums }: Place, nth: number): { readonly length: number; readonly crc: number } {
  const slot = (nth % 2) as 0 | 1
  const whole = memory[slot].length
  const length = Math.min(whole, bytes - nth * whole)
  return { length, crc: length === whole ? sums[slot] : crc32c(memory[slot].subarray(0, length)) }
}

/** Compares what was read last into each piece of memory. */
function checkRead({ place, validates }: Setup): void {
  if (!validates) return
  const count = positionsOf(place.bytes, place.into[0].length).length
  for (let nth = Math.max(0, count - 2); nth < count; nth += 1) {
    const { length, crc } = pieceOf(place, nth)
    if (crc32c(place.into[(nth % 2) as 0 | 1].subarray(0, length)) !== crc)
      throw new Error(`the ${length} bytes of piece ${nth} that were read are not those that were written`)
  }
}

/** The outcome of a task that has written a file, which is compared with the memory that it was written from. */
async function checked({ place, validates }: Setup, file: FileHandle, outcome: Outcome): Promise<Outcome> {
  if (!validates) return outcome
  const found = await file.checksum({ length: place.bytes, chunk: place.memory[0].length })
  for (const [nth, crc] of found.entries())
    if (crc !== pieceOf(place, nth).crc) throw new Error(`piece ${nth} of the file is not what was written`)
  return outcome
}

async function writeNew(setup: Setup, syncs: boolean): Promise<Outcome> {
  const path = setup.place.fresh()
  const meter = new Meter()
  try {
    // For reading, too, so that it can be compared.
    await using file = await setup.engine.open(path, 'wx+')
    return await checked(setup, file, await writeAll(setup, file, meter, syncs ? () => file.datasync() : undefined))
  } finally {
    rmSync(path, { force: true })
  }
}

/** Milliseconds of requests, as an outcome has them: by percent, and their number. */
function latenciesOf(took: readonly number[]): Record<string, number> {
  if (took.length === 0) return {}
  const sorted = took.toSorted((a, b) => a - b)
  const rows = PERCENTS.map((percent) => [latencyKey(percent), quantile(sorted, percent / 100)])
  return { ...(Object.fromEntries(rows) as Record<string, number>), samples: took.length }
}

/** Where {@link Outcome.extra} has a percentile. */
export function latencyKey(percent: number): string {
  return `p${percent}Ms`
}

/** Reads pages at random, each in its own request, until `until`. */
async function readPages(
  { place, signal }: Setup,
  file: FileHandle,
  pages: readonly Uint8Array[],
  untilMs: number,
): Promise<{ readonly took: number[]; readonly ran: string }> {
  const places = positions(100_000, place.bytes, ORDER)
  const took: number[] = []
  let [next, ran] = [0, '']
  const lane = async (page: Uint8Array): Promise<void> => {
    for (let now = performance.now(); now < untilMs;) {
      signal.throwIfAborted()
      const { receipt } = await file.read(page, { position: places[next++ % places.length] as number })
      const ended = performance.now()
      took.push(ended - now)
      now = ended
      if (ran === '') ran = ranOf(receipt)
    }
  }
  await Promise.all(pages.map(lane))
  return { took, ran }
}

async function readRandomly(setup: Setup, depth: number): Promise<Outcome> {
  await using file = await setup.engine.open(setup.place.read, 'r')
  const memory = setup.engine.allocate(depth * PAGE_BYTES).fill(1)
  const pages = Array.from({ length: depth }, (_, lane) => memory.subarray(lane * PAGE_BYTES, (lane + 1) * PAGE_BYTES))
  const meter = new Meter()
  const { took, ran } = await readPages(setup, file, pages, performance.now() + DEPTH_REGION_MS)
  const outcome = meter.stop(took.length * PAGE_BYTES, took.length)
  memory[Symbol.dispose]()
  return { ...outcome, ran, extra: latenciesOf(took) }
}

async function readManyAtOnce({ place, engine, signal }: Setup): Promise<Outcome> {
  await using file = await engine.open(place.read, 'r')
  const memory = engine.allocate(RANGES * PAGE_BYTES).fill(1)
  const places = positions(100 * RANGES, place.bytes, ORDER)
  const took: number[] = []
  let ran = ''
  const meter = new Meter()
  const until = performance.now() + REGION_MS
  for (let now = performance.now(); now < until;) {
    const from = (took.length % 100) * RANGES
    const ranges = { positions: places.subarray(from, from + RANGES), lengths: PAGE_BYTES }
    const { receipt } = await file.readMany(memory, ranges, { signal })
    ran = ranOf(receipt)
    const ended = performance.now()
    took.push(ended - now)
    now = ended
  }
  const outcome = meter.stop(took.length * memory.length, took.length * RANGES)
  memory[Symbol.dispose]()
  return { ...outcome, ran, extra: latenciesOf(took) }
}

async function readAndWrite(setup: Setup): Promise<Outcome> {
  const { place, engine } = setup
  await using source = await engine.open(place.read, 'r')
  await using target = await engine.open(place.overwritten, 'r+')
  const meter = new Meter()
  const [read, written] = await Promise.all([readAll(setup, source, meter), writeAll(setup, target, meter)])
  await target.datasync()
  const outcome = meter.stop(2 * place.bytes, read.operations + written.operations)
  checkRead(setup)
  return checked(setup, target, { ...outcome, ran: read.ran ?? '' })
}

async function readBesideStream(setup: Setup): Promise<Outcome> {
  const { place, engine, signal } = setup
  await using stream = await engine.open(place.read, 'r')
  await using file = await engine.open(place.read, 'r')
  const memory = engine.allocate(STREAM_LANES * STREAM_BLOCK_BYTES).fill(1)
  const page = engine.allocate(PAGE_BYTES).fill(1)
  const stop = new AbortController()
  let [next, moved] = [0, 0]
  const lane = async (index: number): Promise<void> => {
    const block = memory.subarray(index * STREAM_BLOCK_BYTES, (index + 1) * STREAM_BLOCK_BYTES)
    while (!stop.signal.aborted) {
      signal.throwIfAborted()
      const position = next
      next = (next + STREAM_BLOCK_BYTES) % place.bytes
      moved += (await stream.read(block, { position })).bytesRead
    }
  }
  const meter = new Meter()
  const streaming = Promise.all(Array.from({ length: STREAM_LANES }, (_, index) => lane(index)))
  try {
    // The stream is at its rate then.
    await sleep(REGION_MS / 10)
    const { took, ran } = await readPages(setup, file, [page], performance.now() + REGION_MS)
    stop.abort()
    await streaming
    const outcome = meter.stop(moved, took.length)
    return { ...outcome, ran, extra: { ...latenciesOf(took), streamGBps: moved / outcome.wallSeconds / 1e9 } }
  } finally {
    stop.abort()
    await streaming.catch(() => {})
    memory[Symbol.dispose]()
    page[Symbol.dispose]()
  }
}
