/**
 * Many ranges of several files: in one promise, and in batches as they come.
 */

import { linked, throwIfAborted, signalOf } from '../core/abort.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { optionsOf } from '../core/options.ts'
import type { Bytes } from '../memory/view.ts'
// oxlint-disable-next-line import/no-cycle -- a batch is of files
import { isFileHandle, type FileHandle } from './file.ts'
import type { ReadManyOptions, ReadManyResult } from './many.ts'
import type { Numbers, Ranges } from './ranges.ts'

/** Ranges of one file, for {@link readMany} over several. */
export interface ManyRequest<B extends Bytes = Bytes> extends Ranges {
  /** The file. */
  file: FileHandle
  /** Where its ranges go. */
  buffer: B
}

/** Ranges of one batch: enough to keep a drive busy, few enough that the first come soon. */
const BATCH_RANGES = 256

/** Bytes of one batch. */
const BATCH_BYTES = 8 << 20

/** Batches in flight. */
const AHEAD = 8

function requestsOf(requests: unknown): readonly ManyRequest[] {
  if (!Array.isArray(requests)) throw invalidType('requests', 'an array', requests)
  for (const [index, request] of requests.entries()) {
    const name = `requests[${index}]`
    if (typeof request !== 'object' || request === null) throw invalidType(name, 'an object', request)
    if (!isFileHandle((request as Partial<ManyRequest>).file))
      throw invalidType(`${name}.file`, 'a FileHandle', (request as Partial<ManyRequest>).file)
    const { file } = request as ManyRequest
    if (file.engine !== (requests as readonly ManyRequest[])[0]?.file.engine)
      throw invalidValue(`${name}.file`, 'The files must be of one engine.', file)
  }
  return requests as readonly ManyRequest[]
}

/**
 * Reads many ranges of several files. The promise settles when all have; if a file fails, the others are canceled first.
 *
 * @param requests - For each file its ranges and their buffer. A file can occur several times.
 * @param options - As of {@link FileHandle.readMany}, for all files.
 * @returns The results, in the order of the requests.
 * @throws The error of the first file that failed, see {@link FileHandle.readMany}. Its `index` counts through the ranges of
 * all requests.
 *
 * @example
 * ```ts
 * import { open, readMany } from 'deepring'
 *
 * const file = await open('vectors.bin', 'w+')
 * await file.write(new Uint8Array(4096).fill(7), { position: 0 })
 * const buffer = new Uint8Array(256)
 * const [result] = await readMany([{ file, buffer, positions: [4000, 0], lengths: [96, 128] }])
 * console.log(result?.bytesRead, buffer[0]) // 224 7
 * await file.close()
 * ```
 */
export async function readMany(
  requests: readonly ManyRequest[],
  options?: Omit<ReadManyOptions, 'expect'>,
): Promise<ReadManyResult[]> {
  const all = requestsOf(requests)
  const { signal, ...others } = optionsOf(options, OPTION_KEYS)
  const { controller, unlink } = linked(signalOf(signal))
  let before = 0
  const reads = all.map(({ file, buffer, ...ranges }) => {
    const first = before
    before += lengthOf(ranges.positions)
    return file.readMany(buffer, ranges, { ...others, signal: controller.signal }).catch((error: unknown) => {
      throw renumbered(error, (index) => first + index)
    })
  })
  try {
    return await Promise.all(reads)
  } catch (error) {
    controller.abort(error)
    // The memory of the others is the caller's again when they have settled.
    await Promise.allSettled(reads)
    throwIfAborted(signal)
    throw error
  } finally {
    unlink()
  }
}

const OPTION_KEYS: ReadonlySet<string> = new Set(['exact', 'partial', 'gap', 'checksum', 'priority', 'signal'])

/** A part of a request, read at once. */
interface Part {
  readonly file: FileHandle
  readonly buffer: Bytes
  readonly ranges: Ranges
  readonly indices: Uint32Array
}

/**
 * Reads many ranges of several files, and yields the indices of those that have come, a batch at a time. Indices count
 * through the ranges of all requests. Batches come in any order; each range comes once.
 *
 * Leaving the loop cancels the rest, and waits until the buffers are the caller's again.
 *
 * @param requests - As of {@link readMany}.
 * @param options - `exact`, `gap`, `priority`, `signal`.
 * @throws The error of a range that failed. Its `index` counts through all ranges.
 *
 * @example
 * ```ts
 * import { open, readManyBatches } from 'deepring'
 *
 * const file = await open('vectors.bin', 'w+')
 * await file.write(new Uint8Array(65536).fill(7), { position: 0 })
 * const positions = Float64Array.from({ length: 1000 }, (_, row) => row * 64)
 * let rows = 0
 * for await (const batch of readManyBatches([{ file, buffer: new Uint8Array(64000), positions, lengths: 64 }]))
 *   rows += batch.length
 * console.log(rows) // 1000
 * await file.close()
 * ```
 */
export async function* readManyBatches(
  requests: readonly ManyRequest[],
  options?: Omit<ReadManyOptions, 'partial' | 'checksum' | 'expect'>,
): AsyncGenerator<Uint32Array, void, void> {
  const all = requestsOf(requests)
  const { signal, ...others } = optionsOf(options, BATCH_KEYS)
  const { controller, unlink } = linked(signalOf(signal))
  const parts = partsOf(all)
  const running = new Map<number, Promise<{ readonly number: number; readonly indices: Uint32Array }>>()
  let next = 0
  const start = (): void => {
    const part = parts.next()
    if (part.done === true) return
    const { file, buffer, ranges, indices } = part.value
    const number = next++
    const read = file.readMany(buffer, ranges, { ...others, signal: controller.signal }).then(
      () => ({ number, indices }),
      (error: unknown) => {
        throw renumbered(error, (index) => indices[index] as number)
      },
    )
    // Which of them fails first is seen below; the others must not count as unhandled.
    read.catch(() => {})
    running.set(number, read)
  }
  try {
    for (let ahead = 0; ahead < AHEAD; ahead++) start()
    while (running.size > 0) {
      // oxlint-disable-next-line no-await-in-loop -- batch by batch
      const { number, indices } = await Promise.race(running.values())
      running.delete(number)
      start()
      yield indices
    }
  } catch (error) {
    throwIfAborted(signal)
    throw error
  } finally {
    controller.abort()
    await Promise.allSettled(running.values())
    unlink()
  }
}

const BATCH_KEYS: ReadonlySet<string> = new Set(['exact', 'gap', 'priority', 'signal'])

/** An error, with the index that its range has among all; and those in it. */
function renumbered(error: unknown, among: (index: number) => number): unknown {
  const { index, errors } = error as { index?: unknown; errors?: readonly unknown[] }
  if (typeof index === 'number') (error as { index: number }).index = among(index)
  for (const each of errors ?? []) renumbered(each, among)
  return error
}

/** Cuts the requests into parts, in their order. */
function* partsOf(requests: readonly ManyRequest[]): Generator<Part, void, void> {
  let before = 0
  for (const { file, buffer, positions, lengths, offsets } of requests) {
    const count = lengthOf(positions)
    const lengthAt = (index: number): number => (typeof lengths === 'object' ? Number(lengths[index]) : Number(lengths))
    let packed = 0
    for (let first = 0; first < count;) {
      let bytes = 0
      let end = first
      while (end < count && end - first < BATCH_RANGES && (bytes === 0 || bytes + lengthAt(end) <= BATCH_BYTES))
        bytes += lengthAt(end++)
      const ranges: Ranges = {
        positions: cut(positions, first, end),
        lengths: typeof lengths === 'object' ? cut(lengths, first, end) : lengths,
        offsets: offsets === undefined ? packedOffsets(packed, first, end, lengthAt) : cut(offsets, first, end),
      }
      const start = before + first
      yield { file, buffer, ranges, indices: Uint32Array.from({ length: end - first }, (_, index) => start + index) }
      packed += bytes
      first = end
    }
    before += count
  }
}

function lengthOf(list: unknown): number {
  const length = typeof list === 'object' && list !== null ? (list as { length?: unknown }).length : undefined
  if (typeof length !== 'number') throw invalidType('positions', 'a list of numbers', list)
  return length
}

function packedOffsets(packed: number, first: number, end: number, lengthAt: (index: number) => number): Float64Array {
  let next = packed
  return Float64Array.from({ length: end - first }, (_, index) => {
    const offset = next
    next += lengthAt(first + index)
    return offset
  })
}

function cut(list: Numbers, first: number, end: number): Numbers {
  if (Array.isArray(list)) return list.slice(first, end)
  if (!ArrayBuffer.isView(list)) throw invalidValue('ranges', 'Their numbers must be in lists.', list)
  return (list as Float64Array).subarray(first, end)
}
