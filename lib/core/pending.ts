/**
 * The table of requests under way, found by their number.
 *
 * Numbers only grow, and a request lies in the slot that the low bits of its number name. A number whose slot is taken, by a request that
 * has been under way for a whole turn of the table, is passed over: so there is never a collision to resolve, and a number is never used
 * twice. A late cancellation therefore cannot hit a stranger.
 *
 * A `Map` would do the same, but at ten thousands of requests a second it is rebuilt all the time, and every table it leaves behind
 * points to the next: once one of them is old, the garbage collector keeps them all, with all requests in them, until its next full
 * run. Measured at 128 reads in flight: pauses of 40 to 90 ms.
 */

/** Slots at first, and after a burst has ebbed away: 8 KiB. A power of two, as all sizes of the table. */
const SLOTS_MIN = 1024

/** What can be kept in the table. */
export interface Numbered {
  readonly id: number
}

export class Pending<T extends Numbered> {
  #slots: (T | undefined)[] = emptySlots(SLOTS_MIN)
  #mask = SLOTS_MIN - 1
  #size = 0
  #lastId = 0

  /** How many there are. */
  get size(): number {
    return this.#size
  }

  /** A number that was never given before, whose slot is free until the next call. */
  nextId(): number {
    do this.#lastId += 1
    while (this.#slots[this.#lastId & this.#mask] !== undefined)
    return this.#lastId
  }

  /** Puts in an entry, whose number must be the last that was given. */
  add(entry: T): void {
    this.#slots[entry.id & this.#mask] = entry
    this.#size += 1
    // Half empty, so that a free slot is never far.
    if (this.#size * 2 > this.#slots.length) this.#resize(this.#slots.length * 2)
  }

  /** Tells whether the entry of this number is there. */
  has(id: number): boolean {
    return this.#slots[id & this.#mask]?.id === id
  }

  /** Takes out the entry of this number. */
  take(id: number): T | undefined {
    const entry = this.#slots[id & this.#mask]
    if (entry === undefined || entry.id !== id) return undefined
    this.#slots[id & this.#mask] = undefined
    this.#size -= 1
    if (this.#size === 0 && this.#slots.length > SLOTS_MIN) this.#resize(SLOTS_MIN)
    return entry
  }

  /** Numbers that differ in their low bits differ in more of them: moving to a larger table makes no collision. */
  #resize(length: number): void {
    const slots = emptySlots<T>(length)
    for (const entry of this.#slots) if (entry !== undefined) slots[entry.id & (length - 1)] = entry
    this.#slots = slots
    this.#mask = length - 1
  }
}

function emptySlots<T>(length: number): (T | undefined)[] {
  return Array.from<T | undefined>({ length }).fill(undefined)
}
