/**
 * Transfers in DeepNVMe's manner: by path or by open file, under a limit of their own, checked afterwards if asked for.
 *
 * Each can be carried out in three ways: with a promise, blocking the JavaScript thread, or in a batch (see
 * `ledger.ts`). All stage the same requests; they differ in how the outcome is awaited.
 */

import { Buffer } from 'node:buffer'
import { blockOn, connect, detachedInFlight, nextId, Operation, track } from '../core/completions.ts'
import { engineStateOf, type Engine } from '../engine/engine.ts'
import { checkOpen } from '../engine/engine-state.ts'
import { closed } from '../core/errors.ts'
import {
  finishNothing,
  finishRead,
  finishWrite,
  stageRead,
  stageWrite,
  type FileState,
  type Lane,
} from '../file/file-state.ts'
import type { CheckedPath } from '../core/path.ts'

/** Permissions of files that are created by path, before the umask: those of node:fs. */
const MODE = 0o666

const NO_PATH = Buffer.alloc(0)

/** One transfer, fully checked. */
export interface Transfer {
  /** The engine that does it, held until it is done: one that nobody holds is closed. */
  readonly engine: Engine
  readonly write: boolean
  /** What the caller passed as the buffer. */
  readonly subject: unknown
  /** The bytes of it. */
  readonly view: Uint8Array
  /** A path to be opened when the request's turn comes, or an open file. */
  readonly target: CheckedPath | FileState
  readonly position: number
  /** By path: read only if the sizes are equal; end the file where the buffer ends. */
  readonly whole: boolean
  /** Compare the file with the buffer afterwards, through a descriptor of its own. */
  readonly validate: boolean
}

/** Carries out a transfer. */
export async function perform(transfer: Transfer, lane: Lane, signal: AbortSignal | null): Promise<void> {
  await track(stage(transfer, lane), signal)
  if (!transfer.validate) return
  signal?.throwIfAborted()
  await track(stageVerification(transfer), signal)
}

/** Carries out a transfer, blocking the JavaScript thread. */
export function performBlocking(transfer: Transfer, lane: Lane): void {
  blockOn(stage(transfer, lane))
  if (transfer.validate) blockOn(stageVerification(transfer))
}

/** Stages the request of a transfer, without the comparison that may follow it. */
export function stage(transfer: Transfer, lane: Lane): Operation {
  const operation = stageUnkept(transfer, lane)
  operation.keeper = transfer.engine
  return operation
}

function stageUnkept(transfer: Transfer, lane: Lane): Operation {
  const { write, subject, view, target, position, whole } = transfer
  if (!('bytes' in target)) {
    return write
      ? stageWrite(target, lane, subject, view, position)
      : stageRead(target, lane, subject, view, position, true)
  }
  const engine = engineStateOf(transfer.engine)
  checkOpen(engine, write ? 'write' : 'read')
  const operation = new Operation(nextId(), write ? finishWrite : finishRead, subject, view, target.text)
  const { handle, batch } = lane
  if (write) connect().writePath(operation.id, engine.number, target.bytes, handle, batch, view, position, whole, MODE)
  else connect().readPath(operation.id, engine.number, target.bytes, handle, batch, view, position, whole)
  return operation
}

/** Stages the comparison of a file with the buffer of a transfer. */
export function stageVerification(transfer: Transfer): Operation {
  const { subject, view, target, position } = transfer
  const engine = engineStateOf(transfer.engine)
  const byPath = 'bytes' in target
  checkOpen(engine, 'verify')
  if (!byPath && target.number === 0) throw closed('file', 'verify', target.path)
  const operation = new Operation(nextId(), finishVerification, subject, view, byPath ? target.text : target.path)
  operation.keeper = transfer.engine
  connect().verify(
    operation.id,
    engine.number,
    byPath ? target.bytes : NO_PATH,
    byPath ? 0 : target.number,
    view,
    position,
  )
  return operation
}

function finishVerification(operation: Operation): undefined {
  if (operation.view?.byteLength !== operation.requested) throw detachedInFlight(operation, 'verify')
  return finishNothing()
}
