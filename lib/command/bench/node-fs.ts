/**
 * node:fs beside deepring: what a program gets without an addon, through the page cache and the four threads of libuv.
 *
 * It reads files that are not in the page cache, and leaves none of them there, because direct writes to cached ranges are slow.
 */

import { rmSync } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { Meter } from '../../measure/meter.ts'
import type { Outcome } from '../../measure/outcome.ts'
import { PAGE_BYTES, positions } from '../../measure/positions.ts'
import { execute } from '../../measure/process.ts'
import type { Contender } from '../../measure/rounds.ts'
import { positionsOf, type Place } from './place.ts'
import { DEPTH_REGION_MS, ORDER, type Setup, type Task } from './tasks.ts'

/** Bytes of a call, and calls at a time: as many as libuv has threads. */
const PIECE_BYTES = 8 << 20
const LANES = 4

/** Requests at a time, of the one random task that it takes part in. */
const DEPTH = 32

/** node:fs for a task; `undefined` where the two would not do the same. */
export function nodeContender({ name, depth }: Task, setup: Setup): Contender | undefined {
  const run = name === 'read' ? readAll : name === 'sync' ? writeNew : depth === DEPTH ? readRandomly : undefined
  if (run === undefined) return undefined
  return { name: 'node:fs', configuration: `FileHandle, ${LANES} threads, page cache`, run: () => run(setup) }
}

async function readAll({ place, signal }: Setup): Promise<Outcome> {
  return uncached(place.read, signal, async (file) => {
    const meter = new Meter()
    await inPieces(place, place.into, signal, async (memory, position) => {
      const { bytesRead } = await file.read(memory, 0, memory.length, position)
      if (bytesRead !== memory.length) throw new Error(`read ${bytesRead} of ${memory.length} bytes at ${position}`)
    })
    return meter.stop(place.bytes, Math.ceil(place.bytes / PIECE_BYTES))
  })
}

async function writeNew({ place, signal }: Setup): Promise<Outcome> {
  const path = place.fresh()
  const meter = new Meter()
  try {
    await using file = await open(path, 'wx')
    await inPieces(place, place.memory, signal, async (memory, position) => {
      const { bytesWritten } = await file.write(memory, 0, memory.length, position)
      if (bytesWritten !== memory.length)
        throw new Error(`wrote ${bytesWritten} of ${memory.length} bytes at ${position}`)
    })
    await file.datasync()
    return meter.stop(place.bytes, Math.ceil(place.bytes / PIECE_BYTES))
  } finally {
    rmSync(path, { force: true })
  }
}

async function readRandomly({ place, signal }: Setup): Promise<Outcome> {
  const places = positions(100_000, place.bytes, ORDER)
  return uncached(place.read, signal, async (file) => {
    let done = 0
    const meter = new Meter()
    const until = performance.now() + DEPTH_REGION_MS
    const lane = async (page: Uint8Array): Promise<void> => {
      while (performance.now() < until) {
        signal.throwIfAborted()
        await file.read(page, 0, PAGE_BYTES, places[done++ % places.length] as number)
      }
    }
    const [memory] = place.into
    await Promise.all(
      Array.from({ length: DEPTH }, (_, nth) => lane(memory.subarray(nth * PAGE_BYTES, (nth + 1) * PAGE_BYTES))),
    )
    return meter.stop(done * PAGE_BYTES, done)
  })
}

/** Works on a file that is not in the page cache, and takes it out of there again. */
async function uncached(
  path: string,
  signal: AbortSignal,
  work: (file: FileHandle) => Promise<Outcome>,
): Promise<Outcome> {
  // Node has no posix_fadvise. This copies nothing, and drops the pages.
  const drop = (): Promise<unknown> =>
    execute('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none'], {}, signal)
  await drop()
  try {
    await using file = await open(path, 'r')
    return await work(file)
  } finally {
    await drop()
  }
}

/** Moves all pieces of a file, between it and the memory that deepring uses, too. */
async function inPieces(
  { bytes }: Place,
  memory: Place['memory'],
  signal: AbortSignal,
  move: (memory: Uint8Array, position: number) => Promise<void>,
): Promise<void> {
  const [half] = memory
  const places = positionsOf(bytes, PIECE_BYTES)
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < places.length) {
      signal.throwIfAborted()
      const position = places[next++] as number
      const at = position % half.length
      const from = memory[(Math.floor(position / half.length) % 2) as 0 | 1]
      await move(from.subarray(at, at + Math.min(PIECE_BYTES, bytes - position)), position)
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}
