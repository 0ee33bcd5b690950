/** A file as parsers see it that read parts of it: {@link AsyncBuffer}. */

import { signalOf } from '../core/abort.ts'
import { track } from '../core/completions.ts'
import { integerOf, optionsOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { stageRead, type FileState, type ReadResult } from './file-state.ts'
import { sizeOf } from './reader.ts'

/**
 * A file of known length whose parts are read when they are needed: what hyparquet takes, and in a few lines what zarrita and
 * geotiff take.
 */
export interface AsyncBuffer {
  /** The length of the file when this was made. */
  readonly byteLength: number
  /**
   * Reads a part, as `ArrayBuffer.prototype.slice` takes it. Negative numbers count from the end. The memory is the caller's.
   *
   * @throws As `FileHandle.read`; `ERR_DEEPRING_EOF` if the file has been shortened.
   */
  slice(start: number, end?: number): Promise<ArrayBuffer>
}

/** See `FileHandle.asyncBuffer`. */
export async function asyncBuffer(state: FileState, owner: object, options?: SignalOptions): Promise<AsyncBuffer> {
  const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
  const byteLength = await sizeOf(state, owner, signal)
  const slice = async (start: number, end: number = byteLength): Promise<ArrayBuffer> => {
    const from = placeOf(start, 'start', byteLength)
    const length = Math.max(0, placeOf(end, 'end', byteLength) - from)
    const memory = new Uint8Array(length)
    const operation = stageRead(state, memory, memory, from, true, 0)
    operation.owner = owner
    await track<ReadResult>(operation, signal)
    return memory.buffer
  }
  return { byteLength, slice }
}

/** A place within the file: from its end, if it is negative. */
function placeOf(value: unknown, name: string, byteLength: number): number {
  const place = integerOf(value, name, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  return Math.min(byteLength, place < 0 ? Math.max(0, byteLength + place) : place)
}
