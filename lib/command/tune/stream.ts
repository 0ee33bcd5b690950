/**
 * Rates for a search: of a stream with some bytes in flight, and of small requests with some of them at once.
 *
 * A stream is many requests of 4 MiB on one file, more than fit into the window, so that the window alone decides what is in
 * flight. What is counted begins when one window has come, and ends with the last request before the time is over. What is left
 * then is canceled.
 */

import { Engine, type EngineBuffer, type EngineOptions, type FileHandle } from '../../../index.ts'
import { PAGE_BYTES, positions } from '../../measure/positions.ts'

/** Of the drive. */
export type Direction = 'read' | 'write'

/** Bytes of a request of a stream: the largest block. */
export const PIECE_BYTES: number = 4 << 20

/** Requests beyond those that fill the window. */
const SPARE_LANES = 8

/**
 * What is counted at least, in requests and in windows, if that takes no longer than so many times the time: with much in flight
 * requests end in bursts.
 */
const COUNTED_MIN = 8
const WINDOWS_MIN = 2
const PATIENCE = 6

/** Of the time, so much passes before anything is counted. */
const WARM_UP = 0.2

/** Seeds the order of random positions. */
const ORDER = 11

/** What is measured, and where. */
export interface Ground {
  readonly path: string
  /** Bytes of the file: a multiple of {@link PIECE_BYTES}. */
  readonly bytes: number
  /** Memory of many pieces, with random bytes. */
  readonly memory: EngineBuffer
  readonly signal: AbortSignal
}

/** Bytes in flight that the memory is enough for. */
export function windowMax(memoryBytes: number): number {
  return memoryBytes - SPARE_LANES * PIECE_BYTES
}

/** Memory that a window needs. */
export function memoryFor(window: number): number {
  return window + SPARE_LANES * PIECE_BYTES
}

/** Runs something on an engine of its own, without a profile. */
export async function onEngine<T>(
  { path, signal }: Ground,
  direction: Direction,
  options: EngineOptions,
  run: (engine: Engine, file: FileHandle) => Promise<T>,
): Promise<T> {
  await using engine = new Engine({ ...options, profile: false })
  await using file = await engine.open(path, direction === 'read' ? 'r' : 'r+', { signal })
  return await run(engine, file)
}

/** Bytes per second with `window` bytes in flight, in blocks of `block`. */
export function streamRate(
  ground: Ground,
  direction: Direction,
  { window, block, seconds }: { readonly window: number; readonly block: number; readonly seconds: number },
): Promise<number> {
  const limits = { window: 'fixed', inFlightBytes: window, blockSize: Math.min(block, window) } as const
  return onEngine(ground, direction, limits, (_engine, file) => stream(ground, direction, file, { window, seconds }))
}

/** Runs a stream, and returns its rate. */
export async function stream(
  { memory, bytes, signal }: Ground,
  direction: Direction,
  file: FileHandle,
  { window, seconds, onPiece }: { readonly window: number; readonly seconds: number; readonly onPiece?: () => void },
): Promise<number> {
  const lanes = Math.min(Math.floor(memory.length / PIECE_BYTES), Math.ceil(window / PIECE_BYTES) + SPARE_LANES)
  const stop = new AbortController()
  const either = AbortSignal.any([signal, stop.signal])
  const least = Math.max(COUNTED_MIN, (WINDOWS_MIN * window) / PIECE_BYTES)
  const begin = performance.now()
  const end = begin + seconds * 1e3
  let [next, moved, counted] = [0, 0, 0]
  let [first, last] = [NaN, NaN]
  const lane = async (index: number): Promise<void> => {
    const view = memory.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES)
    while (!either.aborted) {
      const position = next
      next = (next + PIECE_BYTES) % bytes
      if (direction === 'read') await file.read(view, { position, exact: true, signal: either })
      else await file.write(view, { position, signal: either })
      const now = performance.now()
      moved += PIECE_BYTES
      if (Number.isNaN(first)) {
        if (moved >= window && now >= begin + seconds * WARM_UP * 1e3) first = now
      } else if (now <= end || counted < least) {
        counted += 1
        last = now
      }
      onPiece?.()
      if (now >= end && (counted >= least || now >= begin + (end - begin) * PATIENCE)) stop.abort()
    }
  }
  const ended = await Promise.allSettled(Array.from({ length: lanes }, (_, index) => lane(index)))
  signal.throwIfAborted()
  for (const result of ended)
    if (result.status === 'rejected' && (result.reason as Error).name !== 'AbortError') throw result.reason
  if (counted > 0 && last > first) return (counted * PIECE_BYTES * 1e3) / (last - first)
  // Slower than anything that is worth a window: all that has come, by all the time.
  return (Math.max(moved, PAGE_BYTES) * 1e3) / (performance.now() - begin)
}

/** Requests of 4 KiB per second at random positions, `depth` of them at once. */
export function smallRate(
  ground: Ground,
  direction: Direction,
  { depth, seconds }: { readonly depth: number; readonly seconds: number },
): Promise<number> {
  const { bytes, memory, signal } = ground
  return onEngine(ground, direction, { window: 'fixed' }, async (_engine, file) => {
    const places = positions(100_000, bytes, ORDER)
    const begin = performance.now()
    const [first, end] = [begin + seconds * WARM_UP * 1e3, begin + seconds * 1e3]
    let [next, counted] = [0, 0]
    const lane = async (index: number): Promise<void> => {
      const page = memory.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES)
      for (let now = begin; now < end;) {
        signal.throwIfAborted()
        const position = places[next++ % places.length] as number
        if (direction === 'read') await file.read(page, { position })
        else await file.write(page, { position })
        now = performance.now()
        if (now >= first && now < end) counted += 1
      }
    }
    await Promise.all(Array.from({ length: depth }, (_, index) => lane(index)))
    return (Math.max(1, counted) * 1e3) / (end - first)
  })
}
