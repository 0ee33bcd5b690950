/** Several buffers, one behind the other in the file: `FileHandle.readv` and `writev`. */

import { signalOf } from '../core/abort.ts'
import { cancel, track } from '../core/completions.ts'
import type { Operation } from '../core/operation.ts'
import { invalidType } from '../core/errors.ts'
import { optionsOf, positionOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { stageRead, stageWrite, type FileState, type ReadResult, type WriteResult } from './file-state.ts'

/** What a read into several buffers did. */
export interface ReadvResult<B extends readonly Bytes[] = readonly Bytes[]> {
  /** Bytes read, of all buffers: as many as they have, unless the file ended. */
  readonly bytesRead: number
  /** The buffers as they were passed in. */
  readonly buffers: B
}

/** What a write from several buffers did. */
export interface WritevResult<B extends readonly Bytes[] = readonly Bytes[]> {
  /** Bytes written, of all buffers: all of them. */
  readonly bytesWritten: number
  /** The buffers as they were passed in. */
  readonly buffers: B
}

/** See `FileHandle.readv`. */
export async function readv<B extends readonly Bytes[]>(
  state: FileState,
  owner: object,
  buffers: B,
  position: number | bigint,
  options?: SignalOptions,
): Promise<ReadvResult<B>> {
  const results = await transferAll<ReadResult>(owner, buffers, position, options, (buffer, view, at) =>
    stageRead(state, buffer, view, at, false, 0),
  )
  // A file that grows meanwhile can have bytes for a buffer behind one that it had too few for.
  const end = results.findIndex(
    ({ bytesRead }, index) => bytesRead < viewOf(buffers[index], undefined, undefined).length,
  )
  const read = end === -1 ? results : results.slice(0, end + 1)
  return { bytesRead: read.reduce((sum, { bytesRead }) => sum + bytesRead, 0), buffers }
}

/** See `FileHandle.writev`. */
export async function writev<B extends readonly Bytes[]>(
  state: FileState,
  owner: object,
  buffers: B,
  position: number | bigint,
  options?: SignalOptions,
): Promise<WritevResult<B>> {
  const results = await transferAll<WriteResult>(owner, buffers, position, options, (buffer, view, at) =>
    stageWrite(state, buffer, view, at, 0),
  )
  return { bytesWritten: results.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0), buffers }
}

/**
 * Makes the requests of all buffers, which cross together. If one fails, the others are canceled, and it is thrown when the
 * memory of all is the caller's again.
 */
async function transferAll<Result>(
  owner: object,
  buffers: readonly Bytes[],
  position: number | bigint,
  options: SignalOptions | undefined,
  stage: (buffer: Bytes, view: Uint8Array, at: number) => Operation,
): Promise<Result[]> {
  if (!Array.isArray(buffers)) throw invalidType('buffers', 'an array', buffers)
  const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
  const views = buffers.map((buffer) => viewOf(buffer, undefined, undefined))
  const bytes = views.reduce((sum, { byteLength }) => sum + byteLength, 0)
  let at = positionOf(position, 'position', bytes)
  const ids: number[] = []
  const transfers = views.map((view, index) => {
    const operation = stage(buffers[index] as Bytes, view, at)
    operation.owner = owner
    at += view.byteLength
    ids.push(operation.id)
    return track<Result>(operation, signal)
  })
  try {
    return await Promise.all(transfers)
  } catch (error) {
    cancel(ids)
    await Promise.allSettled(transfers)
    throw error
  }
}
