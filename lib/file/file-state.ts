/**
 * An open file as the requests on it see it, and how reads and writes on it are staged.
 *
 * A {@link FileState} outlives its `FileHandle` for as long as requests are under way, so that a handle which was
 * dropped can be noticed and its file closed, while those requests run to their end.
 */

import { isEngineMemory } from '../memory/buffer.ts'
import { connect, detachedInFlight, nextId, Operation, runInBackground, track } from '../core/completions.ts'
import type { Closable, EngineState } from '../engine/engine-state.ts'
import { closed, systemError } from '../core/errors.ts'
import type { FlagMeaning, OpenFlags } from '../core/flags.ts'
import { FLAG, type Opened, type RecordView } from '../core/record.ts'
import { receiptOf, type Receipt } from './receipt.ts'
import type { Bytes } from '../core/view.ts'

/** What a read did. */
export interface ReadResult<B extends Bytes = Bytes> {
  /** Bytes read: as many as asked for, unless `exact` was false and the file ended. */
  readonly bytesRead: number
  /** What was passed in. */
  readonly buffer: B
  /** How it went. */
  readonly receipt: Receipt
}

/** What a write did. */
export interface WriteResult<B extends Bytes = Bytes> {
  /** Bytes written: always as many as asked for. */
  readonly bytesWritten: number
  /** What was passed in. */
  readonly buffer: B
  /** How it went. */
  readonly receipt: Receipt
}

/** The part of an open file that requests under way hold on to. */
export class FileState implements Closable {
  /** The number the binding knows it by; 0 once closing has begun. */
  number: number
  /** As the caller named it. */
  readonly path: string
  readonly flags: OpenFlags
  readonly readable: boolean
  readonly writable: boolean
  readonly engine: EngineState
  /** What opening it found out. */
  readonly opened: Opened
  /** Settles when the file is closed; absent while it is open. */
  closing: Promise<void> | undefined
  /** The last known flags of what moves the bytes. */
  #running = 0

  constructor(
    engine: EngineState,
    path: string,
    flags: OpenFlags,
    { readable, writable }: FlagMeaning,
    opened: Opened,
  ) {
    this.number = opened.file
    this.path = path
    this.flags = flags
    this.readable = readable
    this.writable = writable
    this.engine = engine
    this.opened = opened
    this.closing = undefined
  }

  /** True if transfers bypass the page cache now; after the close, what was true last. */
  get direct(): boolean {
    return (this.#flagsNow() & FLAG.direct) !== 0
  }

  /** What moves the bytes now; after the close, what did last. */
  get backend(): 'uring' | 'threads' {
    return (this.#flagsNow() & FLAG.threads) === 0 ? 'uring' : 'threads'
  }

  #flagsNow(): number {
    if (this.number !== 0) this.#running = connect().fileFlags(this.number)
    return this.#running
  }

  /** Closes the file once, however often it is called. */
  close(): Promise<void> {
    if (this.closing === undefined) {
      this.#flagsNow()
      const operation = new Operation(nextId(), finishNothing, this, null, this.path)
      connect().close(operation.id, this.number)
      this.number = 0
      this.engine.files.delete(this)
      this.closing = track<void>(operation, null)
    }
    return this.closing
  }
}

/** Closes a file that nobody has seen yet. */
export function closeUnseen(opened: Opened): void {
  runInBackground((id) => connect().close(id, opened.file))
}

/** Under which limit a request runs, and with which others its outcome may wait. */
export interface Lane {
  /** The limit of an `AioHandle`, or 0. */
  readonly handle: number
  /** The batch that is told of together, or 0. */
  readonly batch: number
}

/** The lane of a request by itself. */
export const ALONE: Lane = { handle: 0, batch: 0 }

/** Stages a read on an open file. */
export function stageRead(
  state: FileState,
  { handle, batch }: Lane,
  buffer: unknown,
  view: Uint8Array,
  position: number,
  exact: boolean,
): Operation {
  checkFileOpen(state, 'read')
  if (!state.readable) throw systemError('EBADF', 'read', state.path, `opened with flags '${state.flags}'`)
  const operation = new Operation(nextId(), finishRead, buffer, view, state.path)
  connect().read(operation.id, state.number, handle, batch, view, position, exact)
  return operation
}

/** Stages a write on an open file. */
export function stageWrite(
  state: FileState,
  { handle, batch }: Lane,
  buffer: unknown,
  view: Uint8Array,
  position: number,
): Operation {
  checkFileOpen(state, 'write')
  checkWritable(state, 'write')
  const operation = new Operation(nextId(), finishWrite, buffer, view, state.path)
  connect().write(operation.id, state.number, handle, batch, view, position)
  return operation
}

/** The result of a read, unless its memory has been taken away: then nobody can see the bytes. */
export function finishRead(operation: Operation, record: RecordView): ReadResult {
  const { view, requested } = operation
  if (view !== null && view.byteLength !== requested) throw detachedInFlight(operation, 'read')
  return { bytesRead: record.transferred, buffer: operation.subject as Bytes, receipt: receiptOf(record) }
}

/**
 * The result of a write, unless its memory has been taken away: then nobody knows which bytes went out. Engine memory
 * is the exception, since nobody can change it once it is detached.
 */
export function finishWrite(operation: Operation, record: RecordView): WriteResult {
  const { view, requested } = operation
  if (view !== null && view.byteLength !== requested && !isEngineMemory(view.buffer))
    throw detachedInFlight(operation, 'write')
  return {
    bytesWritten: record.transferred,
    buffer: operation.subject as Bytes,
    receipt: receiptOf(record),
  }
}

/** The result of what gives none. */
export function finishNothing(): undefined {
  return undefined
}

/** Refuses work for a file that is closed or closing. */
export function checkFileOpen(state: FileState, syscall: string): void {
  if (state.number === 0) throw closed('file', syscall, state.path)
}

/** Refuses to change a file that was opened for reading only. */
export function checkWritable(state: FileState, syscall: string): void {
  if (!state.writable) throw systemError('EBADF', syscall, state.path, `opened with flags '${state.flags}'`)
}
