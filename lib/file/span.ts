/** Parts of a file that are streamed: their options, checked. */

import { signalOf } from '../core/abort.ts'
import { outOfRange } from '../core/errors.ts'
import { bytesOf, integerOf, priorityOf, type Priority, type SignalOptions } from '../core/options.ts'

/** Which part of a file is streamed. */
export interface SpanOptions extends SignalOptions {
  /** Where it begins, in bytes. Default 0. */
  start?: number | bigint | undefined
  /**
   * Its last byte, itself included, as in `fs.createReadStream` and in HTTP. What lies behind the end of the file does not
   * count. Default: up to the end of the file, as it is when the first byte is asked for.
   */
  end?: number | bigint | undefined
  /**
   * Bytes that are read ahead of the consumer at most: less, as long as the consumer does not have to wait. Default 8 MiB.
   */
  readAhead?: number | bigint | undefined
  /** The class of the reads. Default: that of the file, see `open`. */
  priority?: Priority | undefined
}

/** Options of `FileHandle.chunks`. */
export interface ChunkOptions extends SpanOptions {
  /** Bytes of a chunk: chunks begin at multiples of it. The first and the last can have fewer. Default 1 MiB. */
  chunkSize?: number | bigint | undefined
}

/** A part of a file, and how to read it. */
export interface Span {
  readonly start: number
  /** Behind the last byte; Infinity: the end of the file. */
  readonly end: number
  readonly chunkBytes: number
  /** Chunks that are read ahead. */
  readonly ahead: number
  readonly priority: number
  readonly signal: AbortSignal | null
}

export const SPAN_KEYS: readonly string[] = ['start', 'end', 'readAhead', 'priority', 'signal']

export const CHUNK_KEYS: ReadonlySet<string> = new Set([...SPAN_KEYS, 'chunkSize'])

/** A chunk that costs little per byte, and little memory per stream. */
export const CHUNK_BYTES: number = 1 << 20

const AHEAD_BYTES = 8 << 20

/** More would be in flight than a device takes. */
const CHUNK_BYTES_MAX = 2 ** 30

/** Checks the options of what streams a part of a file. `chunkSize` can have another name. */
export function spanOf(
  given: Readonly<Partial<ChunkOptions>>,
  chunkSize: unknown = given.chunkSize,
  name = 'chunkSize',
): Span {
  const start = given.start === undefined ? 0 : bytesOf(given.start, 'options.start')
  const last = given.end === undefined ? Infinity : bytesOf(given.end, 'options.end')
  if (last < start - 1) throw outOfRange('options.end', `>= ${start - 1}, one less than options.start`, given.end)
  const chunkBytes = chunkSize === undefined ? CHUNK_BYTES : bytesOf(chunkSize, `options.${name}`)
  integerOf(chunkBytes, `options.${name}`, 1, CHUNK_BYTES_MAX)
  const aheadBytes = given.readAhead === undefined ? AHEAD_BYTES : bytesOf(given.readAhead, 'options.readAhead')
  return {
    start,
    end: last + 1,
    chunkBytes,
    ahead: Math.ceil(aheadBytes / chunkBytes),
    priority: priorityOf(given.priority),
    signal: signalOf(given.signal),
  }
}
