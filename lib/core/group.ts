/**
 * Transfers that are reported together: one outcome for any number of them.
 *
 * ```text
 *   new Group ── add ── add ── follow ── close()            the binding makes one record for all members
 *                 │      │        │         └──► the failures, in the order of joining, when all have settled
 *                 └──────┴────────┴── settle in any order
 * ```
 *
 * A thousand small files make one record and one promise, not a thousand: each then takes half the time of this thread.
 * The group holds the memory of its members until it has settled, because the kernel can use it until then.
 */

import { cancel, connect, errorOf, expectRecord, flushSoon, keepForever, nextId } from './completions.ts'
import { Operation } from './operation.ts'
import type { MemberFailure, RecordView } from './record.ts'
import { isTraced, traced } from './tracing.ts'

/** A member that failed. */
export interface GroupFailure {
  /** Its place in the order of joining. */
  readonly index: number
  readonly error: unknown
}

export class Group {
  /** The number of the group in the binding. */
  readonly id: number
  /** Transfers that have joined. */
  count = 0
  /** The requests of members, by index; `undefined` where a member was refused, or is a promise. */
  readonly #requests: (Operation | undefined)[] = []
  readonly #promises: Promise<void>[] = []
  readonly #failures: GroupFailure[] = []
  readonly #canceler = new AbortController()
  /** Stands for all members. */
  readonly #operation: Operation
  /** Settles with the group's record. */
  readonly #recorded: Promise<void>

  constructor() {
    const operation = new Operation(nextId(), 'wait', finishGroup, this, null, undefined)
    this.id = operation.id
    operation.extra.members = this.#requests
    connect().openGroup(operation.id)
    this.#recorded = new Promise((resolve) => {
      operation.resolve = resolve as () => void
    })
    this.#operation = operation
    expectRecord(operation)
  }

  /**
   * Adds a transfer of one request, which `stage` stages with this group's `id` and the given index. Its `finish` only
   * checks the memory. A request that cannot be staged is a failure of the member.
   */
  add(stage: (group: Group, index: number) => Operation): void {
    const index = this.#join()
    try {
      const operation = stage(this, index)
      this.#requests[index] = operation
      flushSoon(operation.requested)
    } catch (error) {
      this.#failures.push({ index, error })
    }
  }

  /** Adds a transfer of several requests, one after the other. The signal is aborted if the group is canceled. */
  follow(start: (signal: AbortSignal) => Promise<void>): void {
    const index = this.#join()
    const failed = (error: unknown): void => void this.#failures.push({ index, error })
    this.#promises.push(start(this.#canceler.signal).catch(failed))
  }

  /** Cancels all members. They settle first, so the group settles as always. */
  cancel(reason: unknown): void {
    this.#canceler.abort(reason)
    cancel([this.id])
  }

  /** No more transfers join. Resolves to the failures when all members have settled. */
  async close(): Promise<readonly GroupFailure[]> {
    connect().closeGroup(this.id)
    await (isTraced() ? traced(this.#operation, this.#recorded) : this.#recorded)
    await Promise.all(this.#promises)
    return this.#failures.toSorted((a, b) => a.index - b.index)
  }

  /** The requests have settled; those that are not in the record have succeeded. */
  settle(record: RecordView): void {
    const failed = new Set<number>()
    for (const { index, failure } of (record.detail ?? []) as MemberFailure[]) {
      const operation = this.#requests[index] as Operation
      if (failure.code === 'ERR_DEEPRING_LOST' && operation.view !== null) keepForever(operation.view)
      this.#failures.push({ index, error: errorOf(operation, failure) })
      failed.add(index)
    }
    for (const [index, operation] of this.#requests.entries()) {
      if (failed.has(index)) continue
      try {
        operation?.finish(operation, record)
      } catch (error) {
        this.#failures.push({ index, error })
      }
    }
  }

  #join(): number {
    this.#requests.push(undefined)
    return this.count++
  }
}

function finishGroup({ source }: Operation, record: RecordView): void {
  ;(source as Group).settle(record)
}
