/**
 * An open file as its requests see it, and how reads and writes on it are staged.
 *
 * A {@link FileState} lives until the last request on the file has settled. If its `FileHandle` is collected before, the
 * file is closed, and those requests still finish.
 */

import { isEngineMemory } from '../memory/buffer.ts'
import {
  connect,
  detachedInFlight,
  isRetiring,
  nextId,
  runInBackground,
  stageTransfer,
  track,
} from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import type { Closable, EngineState } from '../core/engine-state.ts'
import { closed, DeepringError, systemError } from '../core/errors.ts'
import type { FlagMeaning, OpenFlags } from '../core/flags.ts'
import { backendOf, FLAG, STAGED_FLAG, type Backend, type Opened, type RecordView } from '../core/record.ts'
import { SUM } from '../core/options.ts'
import { receiptOf, type Receipt } from './receipt.ts'
import type { Bytes } from '../memory/view.ts'

/** What a read did. */
export interface ReadResult<B extends Bytes = Bytes> {
  /** Bytes read: all that were requested, unless the file ended. */
  readonly bytesRead: number
  /** The buffer as it was passed in. */
  readonly buffer: B
  /** How it was carried out. */
  readonly receipt: Receipt
}

/** What a write did. */
export interface WriteResult<B extends Bytes = Bytes> {
  /** Bytes written: always all that were requested. */
  readonly bytesWritten: number
  /** The buffer as it was passed in. */
  readonly buffer: B
  /** How it was carried out. */
  readonly receipt: Receipt
}

/** The alignment of direct transfers on a file, in bytes. */
export interface Alignment {
  /** For positions in the file and for lengths. */
  readonly offset: number
  /** For addresses in memory. */
  readonly memory: number
}

/** The part of an open file that its requests use. */
export class FileState implements Closable {
  /** Its number in the binding; 0 once closing has begun. */
  number: number
  /** As the caller named it. */
  readonly path: string
  readonly flags: OpenFlags | number
  readonly readable: boolean
  readonly writable: boolean
  /** All it writes goes to the end of the file. */
  readonly appends: boolean
  readonly engine: EngineState
  /** What the open found out. */
  readonly opened: Opened
  /** Settles when the file is closed; absent while it is open. */
  closing: Promise<void> | undefined
  /** The last known flags of what moves the bytes. */
  #running = 0

  constructor(
    engine: EngineState,
    path: string,
    flags: OpenFlags | number,
    { readable, writable, appends }: FlagMeaning,
    opened: Opened,
  ) {
    this.number = opened.file
    this.path = path
    this.flags = flags
    this.readable = readable
    this.writable = writable
    this.appends = appends
    this.engine = engine
    this.opened = opened
    this.closing = undefined
  }

  /** True if transfers bypass the page cache now; after the close, what was true last. */
  get direct(): boolean {
    return (this.#flagsNow() & FLAG.direct) !== 0
  }

  /** What moves the bytes now; after the close, what did last. */
  get backend(): Backend {
    return backendOf(this.#flagsNow())
  }

  /** True if writes keep out those of other processes; after the close, what was true last. */
  get locks(): boolean {
    return (this.#flagsNow() & FLAG.locks) !== 0
  }

  /** The descriptor; -1 once closing has begun. */
  get fd(): number {
    return this.number === 0 ? -1 : connect().fileDescriptor(this.number)
  }

  #flagsNow(): number {
    if (this.number !== 0) this.#running = connect().fileFlags(this.number)
    return this.#running
  }

  /** Closes the file once, however often it is called. */
  close(): Promise<void> {
    if (this.closing === undefined) {
      this.#flagsNow()
      const operation = new Operation(nextId(), 'close', finishNothing, this, null, this.path)
      connect().close(operation.id, this.number)
      this.number = 0
      this.engine.files.delete(this)
      this.closing = track<void>(operation, null)
    }
    return this.closing
  }
}

/** Closes a file that was opened for an aborted request, and so never returned. */
export function closeUnseen(opened: Opened): void {
  runInBackground((id) => connect().close(id, opened.file))
}

/** Where a request belongs, if anywhere: the handle whose limits it shares, and the group that reports it. */
export interface Membership {
  readonly handle: number
  /** The group, and the request's index in it. */
  readonly group?: { readonly id: number; readonly index: number } | undefined
}

/** Belongs to no handle and no group. */
const ALONE: Membership = { handle: 0 }

/** Stages a read on an open file. */
export function stageRead(
  state: FileState,
  buffer: unknown,
  view: Uint8Array,
  position: number,
  exact: boolean,
  priority: number,
  { handle, group }: Membership = ALONE,
  sum: number = SUM.no,
): Operation {
  checkFileOpen(state, 'read')
  checkReadable(state)
  const operation = transferOperation(false, buffer, view, state.path, group)
  const summed = sum === SUM.no ? 0 : sum === SUM.yes ? STAGED_FLAG.sum : STAGED_FLAG.expect
  const flags = exact ? STAGED_FLAG.exact | summed : summed
  stageTransfer(operation, flags, state.number, handle, group?.id ?? 0, position, priority, null, Math.max(sum, 0))
  return operation
}

/** Stages a write on an open file. */
export function stageWrite(
  state: FileState,
  buffer: unknown,
  view: Uint8Array,
  position: number,
  priority: number,
  { handle, group }: Membership = ALONE,
  sum: number = SUM.no,
): Operation {
  checkFileOpen(state, 'write')
  checkPositioned(state)
  const operation = transferOperation(true, buffer, view, state.path, group)
  const flags = sum === SUM.no ? STAGED_FLAG.write : STAGED_FLAG.write | STAGED_FLAG.sum
  stageTransfer(operation, flags, state.number, handle, group?.id ?? 0, position, priority)
  return operation
}

/** The operation of a read or write; in a group, whose record has no receipts, it finishes with a check alone. */
export function transferOperation(
  write: boolean,
  buffer: unknown,
  view: Uint8Array,
  path: string,
  group: Membership['group'],
): Operation {
  const call = write ? 'write' : 'read'
  if (group !== undefined) return new Operation(group.index, call, write ? checkWrite : checkRead, buffer, view, path)
  return new Operation(nextId(), call, write ? finishWrite : finishRead, buffer, view, path)
}

function finishRead(operation: Operation, record: RecordView): ReadResult {
  checkRead(operation)
  return { bytesRead: record.transferred, buffer: operation.source as Bytes, receipt: receiptOf(record) }
}

function finishWrite(operation: Operation, record: RecordView): WriteResult {
  checkWrite(operation)
  return { bytesWritten: record.transferred, buffer: operation.source as Bytes, receipt: receiptOf(record) }
}

/** Fails if the memory of a read was taken away: the caller cannot see the bytes. */
export function checkRead(operation: Operation): void {
  const { view, requested } = operation
  if (view !== null && (view.byteLength !== requested || isRetiring(view.buffer)))
    throw detachedInFlight(operation, 'read')
}

/**
 * Fails if the memory of a write was taken away: it is unknown which bytes went out. Engine memory is the exception,
 * since it cannot change once it is detached.
 */
export function checkWrite(operation: Operation): void {
  const { view, requested } = operation
  if (view !== null && view.byteLength !== requested && !isEngineMemory(view.buffer))
    throw detachedInFlight(operation, 'write')
}

/** The result of requests without one. */
export function finishNothing(): undefined {
  return undefined
}

/** Refuses work for a file that is closed or closing. */
export function checkFileOpen(state: FileState, syscall: string): void {
  if (state.number === 0) throw closed('file', syscall, state.path)
}

/** Refuses to read a file that was opened for writing only. */
export function checkReadable(state: FileState): void {
  if (!state.readable) throw systemError('EBADF', 'read', state.path, `opened with flags '${state.flags}'`)
}

/** Refuses to write at a position of a file that was opened read-only, or for appending. */
export function checkPositioned(state: FileState): void {
  checkWritable(state, 'write')
  if (state.appends) throw misused(state, 'everything goes to its end: use append()')
}

/** Refuses to append to a file that was not opened for it. */
export function checkAppends(state: FileState): void {
  checkWritable(state, 'write')
  if (!state.appends) throw misused(state, `write() takes a position: open it with 'a' to append`)
}

function misused({ path, flags }: FileState, why: string): DeepringError {
  const message = `The file was opened with the flags '${flags}', so ${why}, write '${path}'`
  return new DeepringError(message, { code: 'ERR_DEEPRING_INVALID', syscall: 'write', path })
}

/** Refuses to change a file that was opened read-only. */
export function checkWritable(state: FileState, syscall: string): void {
  if (!state.writable) throw systemError('EBADF', syscall, state.path, `opened with flags '${state.flags}'`)
}
