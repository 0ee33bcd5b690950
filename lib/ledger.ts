/**
 * What became of an `AioHandle`'s transfers, kept apart from the handle.
 *
 * The ledger counts the transfers under way, remembers the outcomes of the queued ones until a `wait` tells them, and
 * owns the handle's policy in the binding. It outlives a handle that was dropped: only when the last transfer has
 * settled does the policy go, and failures that nobody was told of become a process warning.
 */

import { connect } from './completions.ts'
import { DeepringError } from './errors.ts'

/**
 * A failure kept for `wait`; a class of its own, since what a promise rejects with may be anything, even `undefined`.
 */
class Failed {
  readonly error: unknown
  constructor(error: unknown) {
    this.error = error
  }
}

export class Ledger {
  /** The number of the limit that all transfers of the handle share. */
  readonly policy: number
  readonly #untold = new Set<Failed>()
  #queued: Promise<Failed | undefined>[] = []
  /** Settles when everything that earlier calls of `wait` wait for has settled. */
  #waited: Promise<unknown> = Promise.resolve()
  /** Takes back what is queued; each `wait` takes its own along. */
  #canceler = new AbortController()
  #underWay = 0
  #dropped = false

  constructor(policy: number) {
    this.policy = policy
  }

  /** Starts a transfer whose promise the caller has. */
  run(start: () => Promise<void>): Promise<void> {
    this.#underWay += 1
    return start().finally(() => this.#settled())
  }

  /** Starts a transfer whose outcome the next `wait` tells. */
  queue(start: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#canceler
    const outcome = this.run(() => start(signal)).then(
      () => undefined,
      (error: unknown) => {
        const failed = new Failed(error)
        this.#untold.add(failed)
        return failed
      },
    )
    this.#queued.push(outcome)
  }

  /** Waits for everything queued so far; see `AioHandle.wait`. */
  async wait(signal: AbortSignal | null): Promise<number> {
    const canceler = this.#canceler
    const settled = Promise.all([Promise.all(this.#queued), this.#waited])
    this.#queued = []
    this.#canceler = new AbortController()
    // Without the outcomes: a chain of them would grow with every wait.
    this.#waited = settled.then(() => undefined)
    const cancel = (): void => canceler.abort(signal?.reason)
    signal?.addEventListener('abort', cancel)
    const [outcomes] = await settled
    signal?.removeEventListener('abort', cancel)
    const failures = outcomes.filter((outcome) => outcome !== undefined)
    for (const failure of failures) this.#untold.delete(failure)
    signal?.throwIfAborted()
    if (failures.length > 0) throw summaryOf(failures, outcomes.length)
    return outcomes.length
  }

  /** The handle is gone. */
  drop(): void {
    this.#dropped = true
    if (this.#underWay === 0) this.#end()
  }

  #settled(): void {
    this.#underWay -= 1
    // A turn later, when the outcome has been entered.
    if (this.#underWay === 0 && this.#dropped) setImmediate(() => this.#end())
  }

  #end(): void {
    connect().freePolicy(this.policy)
    const [first] = this.#untold
    if (first === undefined) return
    const message = `An AioHandle was dropped with ${this.#untold.size} failed operations that no wait() has told.`
    process.emitWarning(`${message} The first: ${String(first.error)}`, {
      type: 'DeepringWarning',
      code: 'DEEPRING_FAILURE_UNTOLD',
    })
  }
}

/** One error for all failures of a `wait`: the first, with all of them in `errors`. */
function summaryOf(failures: readonly Failed[], count: number): unknown {
  const errors = failures.map((failure) => failure.error)
  const [first] = errors
  if (!(first instanceof DeepringError)) return first
  const others = failures.length === 1 ? '' : ` (the first of ${failures.length} failures in ${count} operations)`
  return new DeepringError(`${first.message}${others}`, { ...first, errors, cause: first })
}
