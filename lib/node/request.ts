/**
 * One request: runs its steps, call by call, and reports how it ended.
 *
 * ```text
 *   new Request ── next() ──► Call ──► pool ──► callback ── next() ──► ... ──► settle
 *                     │                 │
 *                     └──► Wait         └─ cancel: out of the line, CANCELED thrown into the steps
 * ```
 *
 * A request that is canceled ends where its next call would be; its steps still run their `finally`, which closes what they
 * have opened. A call that runs is waited for, because the system uses the memory.
 */

import { performance } from 'node:perf_hooks'
import { PRIORITY, type Failure } from '../core/record.ts'
import { failureOf, type FailureFields } from './failure.ts'
import type { Pool, Queued } from './pool.ts'
import { CANCELED, Wait, type Call, type Steps } from './steps.ts'

/** How a request ended. */
export type Outcome<T> =
  | { readonly kind: 'done'; readonly value: T }
  | { readonly kind: 'failed'; readonly failure: Failure }
  | { readonly kind: 'canceled' }

/** What a request is. */
export interface Plan<T> {
  readonly pool: Pool
  /** Of `PRIORITY`. */
  readonly priority: number
  /** What it does, for errors that do not say. */
  readonly syscall: string
  /** Where, for the same errors. */
  readonly fields?: FailureFields
  /** It must not be left out: canceling it has no effect. */
  readonly isCertain?: boolean
  readonly steps: Steps<T>
  readonly settle: (outcome: Outcome<T>, request: Request<T>) => void
}

/** Calls that are made again: a signal has interrupted them, or the system was short of something for a moment. */
const PASSING: ReadonlySet<unknown> = new Set(['EINTR', 'EAGAIN'])

/** Times that a call is made again. */
const RETRIES_MAX = 16

/** A request, whatever its result is. */
export interface Running {
  readonly times: { readonly queueMs: number; readonly deviceMs: number; readonly allMs: number }
  readonly retries: number
  readonly isSettled: boolean
  cancel(): void
  finishNow(): void
}

export class Request<T> implements Running {
  readonly #plan: Plan<T>
  readonly #startedMs = performance.now()
  /** When its first call was made, and its last one answered. */
  #firstMs = 0
  #lastMs = 0
  /** The call that waits or runs. */
  #queued: Queued | undefined
  /** It waits for other requests. Each wait has a number, because one that was canceled is answered, too. */
  #waits = 0
  #isWaiting = false
  #isCanceled = false
  #isUnwinding = false
  #isSettled = false
  #retries = 0

  constructor(plan: Plan<T>) {
    this.#plan = plan
  }

  /** Milliseconds until the first call, from there to the end, and of all. */
  get times(): { readonly queueMs: number; readonly deviceMs: number; readonly allMs: number } {
    const first = this.#firstMs === 0 ? performance.now() : this.#firstMs
    const last = this.#lastMs === 0 ? first : this.#lastMs
    return { queueMs: first - this.#startedMs, deviceMs: last - first, allMs: last - this.#startedMs }
  }

  /** Calls that were made again. */
  get retries(): number {
    return this.#retries
  }

  get isSettled(): boolean {
    return this.#isSettled
  }

  /** Begins. */
  start(): void {
    this.#resume(undefined, undefined)
  }

  /** Ends it early, if it is not at its last call. */
  cancel(): void {
    if (this.#isCanceled || this.#isSettled || this.#plan.isCertain === true) return
    this.#isCanceled = true
    const queued = this.#queued
    const isFree = queued === undefined ? this.#isWaiting : this.#plan.pool.take(queued)
    if (isFree) this.#resume(CANCELED, undefined)
  }

  /** Carries it out on this thread, up to its end. Its calls must not have begun. */
  finishNow(): void {
    while (!this.#isSettled) {
      const queued = this.#queued
      if (queued === undefined) this.#resume(undefined, undefined)
      else if (!this.#plan.pool.take(queued)) throw new Error('A call that runs cannot be waited for by blocking')
      else {
        let answer: unknown
        let error: unknown
        try {
          answer = this.#plan.pool.runNow(queued)
        } catch (thrown) {
          error = thrown
        }
        this.#answered(queued, error, answer)
      }
    }
  }

  #answered({ call, startedMs }: Queued, error: unknown, answer: unknown): void {
    if (this.#firstMs === 0) this.#firstMs = startedMs
    this.#lastMs = performance.now()
    if (error && PASSING.has((error as { code?: unknown }).code) && this.#retries < RETRIES_MAX) {
      this.#retries += 1
      this.#submit(call)
      return
    }
    this.#resume(error ?? undefined, answer)
  }

  #resume(error: unknown, answer: unknown): void {
    const { steps, settle, syscall, fields } = this.#plan
    this.#queued = undefined
    this.#isWaiting = false
    this.#waits += 1
    let step
    try {
      step = error === undefined ? steps.next(answer) : this.#throwIn(error)
      // The end of its last call is the end of the request, canceled or not.
      if (this.#isCanceled && !this.#isUnwinding && step.done !== true) step = this.#throwIn(CANCELED)
    } catch (thrown) {
      this.#isSettled = true
      settle(
        thrown === CANCELED ? { kind: 'canceled' } : { kind: 'failed', failure: failureOf(thrown, syscall, fields) },
        this,
      )
      return
    }
    if (step.done === true) {
      this.#isSettled = true
      settle({ kind: 'done', value: step.value }, this)
    } else if (step.value instanceof Wait) this.#wait(step.value)
    else this.#submit(step.value)
  }

  #throwIn(error: unknown): IteratorResult<Call | Wait, T> {
    if (error === CANCELED) this.#isUnwinding = true
    return this.#plan.steps.throw(error)
  }

  #wait({ until }: Wait): void {
    this.#isWaiting = true
    const number = this.#waits
    const resume = (): void => {
      if (number === this.#waits) this.#resume(undefined, undefined)
    }
    until.then(resume, resume)
  }

  #submit(call: Call): void {
    const { pool, priority } = this.#plan
    const isTransfer = call.name === 'read' || call.name === 'write'
    const bytes = isTransfer ? (call.parameters[3] as number) : 0
    const urgency = priority === PRIORITY.none ? PRIORITY.throughput : priority
    const queued = pool.submit(call, urgency, bytes, (error, answer) => this.#answered(queued, error, answer))
    this.#queued = queued
  }
}
