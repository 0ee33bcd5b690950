/**
 * DeepNVMe's transfers: by path or by open file, under the limits of a handle, with an optional comparison afterwards.
 *
 * Each can be carried out in three ways: with a promise, blocking the JavaScript thread, or in a group (see
 * `ledger.ts`). All stage the same requests. They differ in how the outcome is awaited.
 */

import { throwIfAborted } from '../core/abort.ts'
import { blockOn, connect, detachedInFlight, nextId, stageTransfer, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { engineStateOf, type Engine } from '../engine/engine.ts'
import { checkOpen } from '../core/engine-state.ts'
import { closed } from '../core/errors.ts'
import { stageRead, stageWrite, transferOperation, type FileState, type Membership } from '../file/file-state.ts'
import type { CheckedPath } from '../core/path.ts'
import { PRIORITY, STAGED_FLAG } from '../core/record.ts'

/** Permissions of files that are created by path, before the umask: those of node:fs. */
const MODE = 0o666

/** One transfer, after all its arguments were checked. */
export interface Transfer {
  /** The engine that does it. Held until it is done, because an engine that is collected is closed. */
  readonly engine: Engine
  readonly write: boolean
  /** The buffer as the caller passed it. */
  readonly source: unknown
  /** The bytes of it. */
  readonly view: Uint8Array
  /** A path to be opened when the request's turn comes, or an open file. */
  readonly target: CheckedPath | FileState
  readonly position: number
  /** By path: a read requires equal sizes; a write ends the file where the buffer ends. */
  readonly whole: boolean
  /** Compare the file with the buffer afterwards, through a separate descriptor. */
  readonly validate: boolean
}

/** Carries out a transfer. */
export async function perform(transfer: Transfer, handle: number, signal: AbortSignal | null): Promise<void> {
  const request = stage(transfer, { handle })
  if (!transfer.validate) return void (await track(request, signal))
  const name = keepName(transfer)
  let comparison: Operation
  try {
    await track(request, signal)
    throwIfAborted(signal)
    comparison = stageVerification(transfer, name)
  } catch (error) {
    connect().dropName(name)
    throw error
  }
  await track(comparison, signal)
}

/** Carries out a transfer, blocking the JavaScript thread. */
export function performBlocking(transfer: Transfer, handle: number): void {
  blockOn(stage(transfer, { handle }))
  if (transfer.validate) blockOn(stageVerification(transfer))
}

/** Stages the request of a transfer, without the comparison that may follow it. */
export function stage(transfer: Transfer, membership: Membership): Operation {
  const { target } = transfer
  const operation =
    'bytes' in target ? stageByPath(transfer, target, membership) : stageByFile(transfer, target, membership)
  operation.owner = transfer.engine
  return operation
}

function stageByFile(transfer: Transfer, file: FileState, membership: Membership): Operation {
  const { write, source, view, position } = transfer
  if (write) return stageWrite(file, source, view, position, PRIORITY.none, membership)
  return stageRead(file, source, view, position, true, PRIORITY.none, membership)
}

function stageByPath(transfer: Transfer, { bytes, text }: CheckedPath, { handle, group }: Membership): Operation {
  const { write, source, view, position, whole } = transfer
  const engine = engineStateOf(transfer.engine)
  checkOpen(engine, write ? 'write' : 'read')
  const operation = transferOperation(write, source, view, text, group)
  const flags = (write ? STAGED_FLAG.write : 0) | STAGED_FLAG.exact | (whole ? STAGED_FLAG.whole : 0)
  stageTransfer(operation, flags, engine.number, handle, group?.id ?? 0, position, PRIORITY.none, bytes, MODE)
  return operation
}

/** What the path of a transfer means now, for the comparison that follows; 0 for an open file. */
export function keepName({ target }: Transfer): number {
  return 'bytes' in target ? connect().keepName(target.bytes) : 0
}

/** Stages the comparison of a file with the buffer of a transfer. */
export function stageVerification(transfer: Transfer, name: number = keepName(transfer)): Operation {
  const { source, view, target, position } = transfer
  const engine = engineStateOf(transfer.engine)
  const byPath = 'bytes' in target
  checkOpen(engine, 'verify')
  if (!byPath && target.number === 0) throw closed('file', 'verify', target.path)
  const operation = new Operation(
    nextId(),
    'verify',
    finishVerification,
    source,
    view,
    byPath ? target.text : target.path,
  )
  operation.owner = transfer.engine
  connect().verify(operation.id, engine.number, name, byPath ? 0 : target.number, view, position)
  return operation
}

function finishVerification(operation: Operation): void {
  if (operation.view?.byteLength !== operation.requested) throw detachedInFlight(operation, 'verify')
}
