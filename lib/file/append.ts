/**
 * Appends: bytes that go to the end of the file, wherever that is when they are written.
 *
 * The kernel finds the end and orders those who append at the same time, so appends go through the page cache, one after the
 * other.
 */

import { Buffer } from 'node:buffer'
import { signalOf } from '../core/abort.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { optionsOf, type SignalOptions } from '../core/options.ts'
import type { RecordView } from '../core/record.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { checkAppends, checkFileOpen, checkWrite, type FileState } from './file-state.ts'

/** Options of `FileHandle.append`. */
export interface AppendOptions extends SignalOptions {
  /** Where in the buffer to begin, in bytes. Default 0. */
  offset?: number | bigint | undefined
  /** The number of bytes. Default: all from `offset` on. */
  length?: number | bigint | undefined
}

/** What an append did. */
export interface AppendResult<B extends Bytes = Bytes> {
  /** Bytes written: always all that were requested. */
  readonly bytesWritten: number
  /** The buffer as it was passed in. */
  readonly buffer: B
}

const KEYS: ReadonlySet<string> = new Set(['offset', 'length', 'signal'])

/** See `FileHandle.append`. */
export function append<B extends Bytes>(
  state: FileState,
  owner: object,
  data: B | string,
  options?: AppendOptions,
): Promise<AppendResult<B | Buffer>> {
  const buffer = typeof data === 'string' ? Buffer.from(data) : data
  const given = optionsOf(options, KEYS)
  const view = viewOf(buffer, given.offset, given.length)
  const signal = signalOf(given.signal)
  checkFileOpen(state, 'write')
  checkAppends(state)
  const operation = new Operation(nextId(), 'write', finishAppend, buffer, view, state.path)
  connect().append(operation.id, state.number, view)
  operation.owner = owner
  return track(operation, signal)
}

function finishAppend(operation: Operation, record: RecordView): AppendResult {
  checkWrite(operation)
  return { bytesWritten: record.transferred, buffer: operation.source as Bytes }
}
