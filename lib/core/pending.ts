/**
 * The table of requests in flight, found by their number.
 *
 * Numbers only grow. The low bits of a number name the slot of its request. If that slot is taken, by a request that has
 * been in flight for a whole turn of the table, the number is skipped. So there is never a collision to resolve, and a
 * number is never used twice: a late cancellation cannot hit another request.
 *
 * A `Map` would do the same, but at tens of thousands of requests a second it is rebuilt all the time, and every old
 * table points to the next. Once one of them is in the old generation, the garbage collector keeps them all, with all
 * requests in them, until its next full run. Measured at 128 reads in flight: pauses of 40 to 90 ms.
 */

/** Slots at first, and after a burst: 8 KiB. A power of two, like all sizes of the table. */
const SLOTS_MIN = 1024

/** An entry of the table. */
export interface Numbered {
  readonly id: number
}

export class Pending<T extends Numbered> {
  #slots: (T | undefined)[] = emptySlots(SLOTS_MIN)
  #mask = SLOTS_MIN - 1
  #size = 0
  #lastId = 0

  /** The number of entries. */
  get size(): number {
    return this.#size
  }

  /** A number that was never returned before, whose slot is free until the next call. */
  nextId(): number {
    do this.#lastId += 1
    while (this.#slots[this.#lastId & this.#mask] !== undefined)
    return this.#lastId
  }

  /** Adds an entry, whose number must be the last one from {@link Pending.nextId}. */
  add(entry: T): void {
    this.#slots[entry.id & this.#mask] = entry
    this.#size += 1
    // Half empty, so that a free slot is never far.
    if (this.#size * 2 > this.#slots.length) this.#resize(this.#slots.length * 2)
  }

  /** Whether the entry of this number is there. */
  has(id: number): boolean {
    return this.#slots[id & this.#mask]?.id === id
  }

  /** All entries. */
  *values(): Generator<T> {
    for (const entry of this.#slots) if (entry !== undefined) yield entry
  }

  /** Removes and returns the entry of this number. */
  take(id: number): T | undefined {
    const entry = this.#slots[id & this.#mask]
    if (entry === undefined || entry.id !== id) return undefined
    this.#slots[id & this.#mask] = undefined
    this.#size -= 1
    if (this.#size === 0 && this.#slots.length > SLOTS_MIN) this.#empty()
    return entry
  }

  /** Makes the table small again, without a walk through the many slots of a burst: none has an entry. */
  #empty(): void {
    this.#slots = emptySlots(SLOTS_MIN)
    this.#mask = SLOTS_MIN - 1
  }

  /** Numbers that differ in their low bits also differ in more bits, so a larger table has no collisions. */
  #resize(length: number): void {
    const slots = emptySlots<T>(length)
    for (const entry of this.#slots) if (entry !== undefined) slots[entry.id & (length - 1)] = entry
    this.#slots = slots
    this.#mask = length - 1
  }
}

/** Pushed one by one: a hundred thousand slots that are made at once take V8 50 ms. */
function emptySlots<T>(length: number): (T | undefined)[] {
  const slots: (T | undefined)[] = []
  for (let slot = 0; slot < length; slot += 1) slots.push(undefined)
  return slots
}
