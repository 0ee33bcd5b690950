/**
 * The transfers that an `AioHandle` has queued, kept apart from the handle.
 *
 * The ledger gathers them in one {@link Group} from one `wait` to the next. It outlives a handle that was dropped: when
 * the last transfer has settled, failures that no `wait` has reported become a process warning.
 */

import { throwIfAborted } from '../core/abort.ts'
import { connect } from '../core/completions.ts'
import type { Operation } from '../core/operation.ts'
import { DeepringError } from '../core/errors.ts'
import { Group, type GroupFailure } from '../core/group.ts'

export class Ledger {
  /** The number of the handle in the binding. */
  readonly handle: number
  /** What was queued since the last `wait`. */
  #group: Group | undefined
  /** Settles when everything that earlier calls of `wait` wait for has settled. */
  #waited: Promise<unknown> = Promise.resolve()

  constructor(handle: number) {
    this.handle = handle
  }

  /** Queues a transfer of one request, whose outcome the next `wait` reports. */
  queue(stage: (group: Group, index: number) => Operation): void {
    this.#group ??= new Group()
    this.#group.add(stage)
  }

  /** Queues a transfer of several requests, one after the other. */
  queueChain(start: (signal: AbortSignal) => Promise<void>): void {
    this.#group ??= new Group()
    this.#group.follow(start)
  }

  /** Waits for everything queued so far; see `AioHandle.wait`. */
  async wait(signal: AbortSignal | null): Promise<number> {
    const group = this.#group
    this.#group = undefined
    const waited = Promise.all([group?.close() ?? [], this.#waited])
    this.#waited = waited
    const abort = (): void => group?.cancel(signal?.reason)
    signal?.addEventListener('abort', abort)
    const [failures] = await waited
    signal?.removeEventListener?.('abort', abort)
    throwIfAborted(signal)
    const count = group?.count ?? 0
    if (failures.length > 0) throw summaryOf(failures, count)
    return count
  }

  /** The handle was dropped: no `wait` will come. */
  async drop(): Promise<void> {
    // Requests in flight keep the limits that they were staged with.
    connect().freeHandle(this.handle)
    const failures = (await this.#group?.close()) ?? []
    const [first] = failures
    if (first === undefined) return
    const message = `An AioHandle was dropped with ${failures.length} failed operations that were never reported by wait().`
    process.emitWarning(`${message} The first: ${String(first.error)}`, {
      type: 'DeepringWarning',
      code: 'DEEPRING_FAILURE_UNREPORTED',
    })
  }
}

/** One error for all failures of a `wait`: the first, with all of them in `errors`. */
function summaryOf(failures: readonly GroupFailure[], count: number): unknown {
  const errors = failures.map(({ error }) => error)
  const [first] = errors
  if (!(first instanceof DeepringError)) return first
  const { message } = first
  const others = `the first of ${failures.length} failures in ${count} operations`
  const whole = message.endsWith(')') ? `${message.slice(0, -1)}; ${others})` : `${message} (${others})`
  return new DeepringError(failures.length === 1 ? message : whole, { ...first, errors, cause: first })
}
