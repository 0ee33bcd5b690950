// Memory that belongs to somebody else: taken right after other memory was let go, filled, and looked at when everything has settled. If the
// kernel, or the engine, still writes to what was let go, it is found here.

import { Buffer } from 'node:buffer'
import { strayIn } from './coded.mjs'

/** Memory in which nothing may change. */
export class Victims {
  #taken = []

  /** How many there are. */
  get count() {
    return this.#taken.length
  }

  /** Takes `count` pieces of `bytes` bytes, by `take`, each filled with one value. */
  take(count, bytes, take = (size) => new Uint8Array(size)) {
    for (let i = 0; i < count; i += 1) {
      const value = 1 + (this.#taken.length % 251)
      this.#taken.push({ value, memory: take(bytes).fill(value) })
    }
  }

  /** What is not as it was: one sentence per piece. */
  disturbed() {
    return this.#taken.flatMap(({ value, memory }, index) => {
      const rest = memory.subarray(1)
      // All bytes are equal if each is equal to its neighbour.
      if (memory[0] === value && Buffer.compare(rest, memory.subarray(0, -1)) === 0) return []
      const stray = strayIn(memory)
      if (stray !== undefined) return [`piece ${index} has, at ${stray.at}, ${stray.word}`]
      const at = memory.findIndex((byte) => byte !== value)
      return [`piece ${index} has, at ${at}, ${memory[at]} in place of ${value}`]
    })
  }

  /** Lets go of all. */
  release() {
    this.#taken = []
  }
}
