/**
 * deepring over node:fs, where the native binding cannot run: the functions of the binding, and so everything above them.
 *
 * ```text
 *   lib/core  ── staged numbers ──►  transfers, many, whole, controls
 *                                        │ steps: each call of node:fs, one after the other
 *                                     request ── pool ── node:fs ── libuv
 *                                        │
 *   lib/core  ◄── records, in batches ── delivery
 * ```
 *
 * What is promised stays: exact transfers, errors with their fields, memory that is not touched after its promise has
 * settled, syncs that cover what was accepted before. What node:fs cannot do is refused or said: `direct` is false, nothing
 * is locked against other processes, and the order of writes holds within one thread. Checkpoints and swap stores are
 * refused, because what they promise about power failures was never proven here.
 */

import type { Native } from '../core/native.ts'
import { checksumsOf, enginesOf, filesOf, requestsOf } from './controls.ts'
import { manyOf } from './many.ts'
import { memoryOf } from './memory.ts'
import { refusedOf } from './refused.ts'
import { Session } from './session.ts'
import { tensorsOf } from './tensors.ts'
import { transfersOf } from './transfers.ts'
import { wholeOf } from './whole.ts'

/**
 * The session of this environment.
 *
 * @param reason - Why there is no native binding: for `info()`.
 */
export function nodeNative(reason: string): Native {
  const session = new Session()
  return {
    ...requestsOf(session),
    ...enginesOf(session, reason),
    ...filesOf(session),
    ...transfersOf(session),
    ...manyOf(session),
    ...wholeOf(session),
    ...memoryOf(session.memory),
    ...checksumsOf(session),
    ...tensorsOf(session),
    ...refusedOf(session),
  }
}
