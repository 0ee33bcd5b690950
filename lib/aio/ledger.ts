/**
 * What became of an `AioHandle`'s transfers, kept apart from the handle.
 *
 * The ledger counts the transfers under way, remembers the outcomes of the queued ones until a `wait` tells them, and
 * owns the handle's number in the binding. It outlives a handle that was dropped: only when the last transfer has
 * settled does the number go, and failures that nobody was told of become a process warning.
 */

import { cancel, connect, enter, nextId, type Operation } from '../core/completions.ts'
import { DeepringError } from '../core/errors.ts'
import { ALONE, type Lane } from '../file/file-state.ts'

/** A failure kept for `wait`; `id` tells its place in the order of queueing. */
interface Failed {
  readonly id: number
  readonly error: unknown
}

/** What is queued between one `wait` and the next. */
class Batch {
  /** The requests under way that make up the batch. */
  readonly ids: number[] = []
  readonly failures: Failed[] = []
  /** Aborts the transfers that are chains of requests. */
  readonly canceler = new AbortController()
  count = 0
  left = 0
  /** Called when nothing is left: whoever waits goes on. */
  settled: () => void = ignore
  /** How its requests are told of: the same two functions for all. */
  readonly succeed: () => void
  readonly fail: (error: unknown, operation: Operation) => void

  constructor(settle: (batch: Batch, failed: Failed | undefined) => void) {
    this.succeed = () => settle(this, undefined)
    this.fail = (error, { id }) => settle(this, { id, error })
  }
}

export class Ledger {
  /** What all transfers of the handle share, and queued ones with their batch. */
  readonly lane: Lane
  readonly #untold = new Set<Failed>()
  #batch: Batch
  #lane: Lane
  /** Settles when everything that earlier calls of `wait` wait for has settled. */
  #waited: Promise<unknown> = Promise.resolve()
  #underWay = 0
  #dropped = false

  constructor(handle: number) {
    this.lane = { ...ALONE, handle }
    this.#batch = this.#newBatch()
    this.#lane = { handle, batch: nextId() }
  }

  /** Starts a transfer whose promise the caller has. */
  run(start: () => Promise<void>): Promise<void> {
    this.#underWay += 1
    return start().finally(() => this.#ended())
  }

  /**
   * Starts a transfer of one request, whose outcome the next `wait` tells. No promise is made for it, and its record comes with those of its
   * batch: of a thousand files, each takes half the time of this thread that it would take by itself.
   */
  queue(stage: (lane: Lane) => Operation): void {
    const batch = this.#begin()
    let operation
    try {
      operation = stage(this.#lane)
    } catch (error) {
      this.#settle(batch, { id: nextId(), error })
      return
    }
    batch.ids.push(operation.id)
    operation.resolve = batch.succeed
    operation.reject = batch.fail
    enter(operation)
  }

  /** Starts a transfer of several requests, one after the other. */
  queueChain(start: (signal: AbortSignal) => Promise<void>): void {
    const batch = this.#begin()
    const id = nextId()
    start(batch.canceler.signal).then(batch.succeed, (error: unknown) => this.#settle(batch, { id, error }))
  }

  /** Waits for everything queued so far; see `AioHandle.wait`. */
  async wait(signal: AbortSignal | null): Promise<number> {
    const batch = this.#batch
    this.#batch = this.#newBatch()
    this.#lane = { ...this.#lane, batch: nextId() }
    const settled = new Promise<void>((resolve) => {
      if (batch.left === 0) resolve()
      else batch.settled = resolve
    })
    const waited = Promise.all([settled, this.#waited])
    this.#waited = waited
    const abort = (): void => {
      batch.canceler.abort(signal?.reason)
      cancel(batch.ids)
    }
    signal?.addEventListener('abort', abort)
    await waited
    signal?.removeEventListener('abort', abort)
    for (const failure of batch.failures) this.#untold.delete(failure)
    signal?.throwIfAborted()
    if (batch.failures.length > 0) throw summaryOf(batch.failures, batch.count)
    return batch.count
  }

  /** The handle is gone. */
  drop(): void {
    this.#dropped = true
    if (this.#underWay === 0) this.#end()
  }

  #newBatch(): Batch {
    return new Batch((batch, failed) => this.#settle(batch, failed))
  }

  #begin(): Batch {
    this.#underWay += 1
    this.#batch.count += 1
    this.#batch.left += 1
    return this.#batch
  }

  #settle(batch: Batch, failed: Failed | undefined): void {
    if (failed !== undefined) {
      batch.failures.push(failed)
      this.#untold.add(failed)
    }
    batch.left -= 1
    if (batch.left === 0) batch.settled()
    this.#ended()
  }

  #ended(): void {
    this.#underWay -= 1
    // A turn later, when the outcome has been told.
    if (this.#underWay === 0 && this.#dropped) setImmediate(() => this.#end())
  }

  #end(): void {
    connect().freeHandle(this.lane.handle)
    const [first] = this.#untold
    if (first === undefined) return
    const message = `An AioHandle was dropped with ${this.#untold.size} failed operations that no wait() has told.`
    process.emitWarning(`${message} The first: ${String(first.error)}`, {
      type: 'DeepringWarning',
      code: 'DEEPRING_FAILURE_UNTOLD',
    })
  }
}

function ignore(): void {}

/** One error for all failures of a `wait`: the first, with all of them in `errors`. */
function summaryOf(failures: readonly Failed[], count: number): unknown {
  const errors = failures.toSorted((a, b) => a.id - b.id).map(({ error }) => error)
  const [first] = errors
  if (!(first instanceof DeepringError)) return first
  const others = failures.length === 1 ? '' : ` (the first of ${failures.length} failures in ${count} operations)`
  return new DeepringError(`${first.message}${others}`, { ...first, errors, cause: first })
}
