/**
 * Memory of a lease of the binding, in one part or several: {@link LeasedMemory}.
 *
 * A part becomes an `ArrayBuffer` at the first look at it, and is detached when the lease ends, once no request uses it. As long
 * as one of them is reachable, so is the lease: a view that a program has taken out of it is valid until the lease is ended by
 * hand. A lease that is collected with all its views ends, and what was changed is forgotten.
 */

import { connect, whenUnused } from '../core/completions.ts'
import { detached, fromFailure, quotedName } from '../core/errors.ts'
import { UnseenMemory } from '../memory/brought.ts'
import { lentBuffer, type EngineBuffer } from '../memory/buffer.ts'
import { nothing } from '../safetensors/table-state.ts'

const collected = new FinalizationRegistry<number>((lease) => connect().dropLease(lease))

/** Who has the memory of an `ArrayBuffer`. */
const lenders = new WeakMap<ArrayBufferLike, LeasedMemory>()

/** See the module. */
export class LeasedMemory extends UnseenMemory {
  /** Its number in the binding. */
  readonly #lease: number
  /** Whose it is, for errors. */
  readonly #kind: 'tensor' | 'group'
  readonly #name: string
  readonly #byteLengths: readonly number[]
  /** The store or swapper, which is not collected before. */
  readonly owner: object
  readonly #views: (EngineBuffer | undefined)[]
  #ending: Promise<void> | undefined

  constructor(lease: number, kind: 'tensor' | 'group', name: string, byteLengths: readonly number[], owner: object) {
    super()
    this.#kind = kind
    this.#lease = lease
    this.#name = name
    this.#byteLengths = byteLengths
    this.owner = owner
    this.#views = byteLengths.map(() => undefined)
    collected.register(this, lease, this)
  }

  override take(): EngineBuffer {
    return this.part(0)
  }

  /** The bytes of a part. */
  part(nth: number): EngineBuffer {
    const known = this.#views[nth]
    if (known !== undefined) return known
    const take = (): Uint8Array<ArrayBuffer> => connect().leaseMemory(this.#lease, nth)
    try {
      const view = lentBuffer(this.#byteLengths[nth] === 0 ? empty : take, () => this.drop())
      this.#views[nth] = view
      lenders.set(view.buffer, this)
      return view
    } catch (error) {
      this.drop()
      throw error
    }
  }

  override drop(): void {
    // Without a write, nothing can fail.
    void this.end(false)
  }

  /** Whether it has ended, or is ending. */
  get ended(): boolean {
    return this.#ending !== undefined
  }

  /**
   * Ends the lease, once, after the requests that use its memory. With `write`, what it has is valid from then on: of a group, it
   * can be some parts.
   */
  end(write: boolean | string[]): Promise<void> {
    this.#ending ??= this.#end(write)
    return this.#ending
  }

  #end(write: boolean | string[]): Promise<void> {
    collected.unregister(this)
    const isGone = this.#views.some((view, nth) => view !== undefined && view.byteLength !== this.#byteLengths[nth])
    const shown = this.#views.map((view) => (view?.byteLength === 0 ? undefined : view))
    const memories = shown.flatMap((view) => view?.buffer ?? [])
    let inUse = memories.length
    if (inUse === 0) return this.#finish(shown, write, isGone)
    return new Promise((resolve) => {
      for (const memory of memories)
        whenUnused(memory, () => {
          inUse -= 1
          if (inUse === 0) resolve(this.#finish(shown, write, isGone))
        })
    })
  }

  /** At once, so that what it had is free when this returns. */
  async #finish(shown: (EngineBuffer | undefined)[], write: boolean | string[], isGone: boolean): Promise<void> {
    const failure = connect().endLease(this.#lease, isGone ? false : write, shown)
    if (isGone && write !== false)
      throw detached(
        `The memory of the ${this.#kind} ${quotedName(this.#name)} was detached: nothing of it is written`,
        {
          tensor: this.#name,
        },
      )
    if (failure !== null) throw fromFailure(failure)
  }

  /** Ends it without a write unless it has ended, and waits for the end, whatever comes of it. */
  async release(): Promise<void> {
    await this.end(false).catch(nothing)
  }
}

function empty(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(0)
}
