/**
 * Memory that goes back while its user still has the object: {@link Lease}.
 *
 * ```text
 *   LentMemory   one piece of engine memory, lent to several leases; an ArrayBuffer from the first look at it on
 *     ├─ Lease   a part of it; gives up its share by dispose
 *     └─ Lease   ...                                             the last share gone, or the lender asks: all of it goes back
 * ```
 *
 * What goes back is **detached**: a view that was taken out of a lease has length 0 then, and never shows bytes of another
 * owner. The access through the lease itself throws `ERR_DEEPRING_RELEASED`. A lease of a stream ends when the stream passes
 * it, unless {@link Lease.keep} has moved its bytes out.
 */

import type { DeepringError } from '../core/errors.ts'
import { UnseenMemory } from './brought.ts'

/** Memory whose disposal gives it back; of the caller's own memory, nothing happens. */
interface Returnable extends Uint8Array {
  [Symbol.dispose]?(): void
}

/** One piece of memory that leases share. */
export class LentMemory {
  #memory: Returnable | UnseenMemory | undefined
  #shares: number
  /** It was made for one lease. */
  readonly #alone: boolean
  /** Copies bytes out of it, for leases that are kept. Absent: its leases need not be kept, because only they end them. */
  readonly #copy: ((bytes: Uint8Array, lease: Lease) => Promise<Returnable>) | undefined
  /** One lease had it for itself and has kept it: its lender has lost it. */
  #moved = false

  /**
   * @param shares - Leases that will be made of it.
   */
  constructor(
    memory: Returnable | UnseenMemory,
    shares: number,
    copy?: (bytes: Uint8Array, lease: Lease) => Promise<Returnable>,
  ) {
    this.#memory = memory
    this.#shares = shares
    this.#alone = shares === 1
    this.#copy = copy
  }

  /** All bytes; `undefined` once they have gone back. */
  get memory(): Uint8Array | undefined {
    const memory = this.#memory
    if (!(memory instanceof UnseenMemory)) return memory
    // If the runtime has no room for a view, they have gone back.
    this.#memory = undefined
    return (this.#memory = memory.take())
  }

  /** Whether they have gone back. */
  get released(): boolean {
    return this.#memory === undefined
  }

  /** A lease has given up its share. */
  giveUpShare(): void {
    this.#shares -= 1
    if (this.#shares <= 0) this.#return()
  }

  /** The lender wants it back, whatever leases there are. */
  recall(): void {
    if (!this.#moved) this.#return()
  }

  /** The memory that a lease has once it is kept. */
  async keep(lease: Lease): Promise<LentMemory> {
    if (this.#copy === undefined) return this
    if (this.#alone) {
      this.#moved = true
      return this
    }
    return new LentMemory(await this.#copy(lease.bytes, lease), 1)
  }

  #return(): void {
    const memory = this.#memory
    this.#memory = undefined
    if (memory instanceof UnseenMemory) memory.drop()
    else memory?.[Symbol.dispose]?.()
  }
}

/**
 * A part of memory that goes back: by disposal, or because its lender recalls it. Derived classes say what the bytes are.
 */
export abstract class Lease {
  /** Bytes of the part. */
  readonly byteLength: number
  #lent: LentMemory | undefined
  #offset: number
  #bytes: Uint8Array | undefined
  #keeping: Promise<void> | undefined

  constructor(lent: LentMemory, offset: number, byteLength: number) {
    this.#lent = lent
    this.#offset = offset
    this.byteLength = byteLength
  }

  /**
   * The bytes.
   *
   * @throws `ERR_DEEPRING_RELEASED` once they have gone back.
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    const memory = this.#lent?.memory
    if (memory === undefined) throw this.releasedError()
    this.#bytes ??= new Uint8Array(
      memory.buffer,
      this.byteLength === 0 ? memory.byteOffset : memory.byteOffset + this.#offset,
      this.byteLength,
    )
    return this.#bytes as Uint8Array<ArrayBuffer>
  }

  /** Whether the bytes have gone back. */
  get released(): boolean {
    return this.#lent === undefined || this.#lent.released
  }

  /**
   * Makes the bytes the holder's own until they are disposed. What a stream has yielded is moved out of the memory that the
   * stream will use again: copied, by a thread of the engine, or handed over if it has that memory for itself. Views that
   * were taken before end with that memory. Anything else is the holder's already, and nothing happens.
   *
   * @throws `ERR_DEEPRING_RELEASED`; `ERR_DEEPRING_BUDGET` if the stream's memory has no room for another copy.
   */
  async keep(): Promise<this> {
    if (this.released) throw this.releasedError()
    this.#keeping ??= this.#move().catch((error: unknown) => {
      // There can be room later.
      this.#keeping = undefined
      throw error
    })
    await this.#keeping
    return this
  }

  async #move(): Promise<void> {
    const lent = this.#lent as LentMemory
    const kept = await lent.keep(this)
    if (kept === lent) return
    if (this.#lent === undefined) {
      kept.recall()
      throw this.releasedError()
    }
    this.#lent = kept
    this.#offset = 0
    this.#bytes = undefined
    lent.giveUpShare()
  }

  /** Gives the bytes back. Can be called again. */
  [Symbol.dispose](): void {
    const lent = this.#lent
    this.#lent = undefined
    this.#bytes = undefined
    lent?.giveUpShare()
  }

  /** The error for an access to bytes that have gone back. */
  protected abstract releasedError(): DeepringError
}
