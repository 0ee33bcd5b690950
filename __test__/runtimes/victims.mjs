// Memory of another owner: allocated right after other memory was freed, filled, and checked when everything has
// settled. If the kernel, or the engine, still writes to freed memory, it is found here.

import { Buffer } from 'node:buffer'
import { strayIn } from './coded.mjs'

/** Memory that must not change. */
export class Victims {
  #taken = []

  /** The number of pieces. */
  get count() {
    return this.#taken.length
  }

  /** Allocates `count` pieces of `bytes` bytes with `take`, and fills each with one value. */
  take(count, bytes, take = (size) => new Uint8Array(size)) {
    for (let i = 0; i < count; i += 1) {
      const value = 1 + (this.#taken.length % 251)
      this.#taken.push({ value, memory: take(bytes).fill(value) })
    }
  }

  /** What has changed: one sentence per piece. */
  disturbed() {
    return this.#taken.flatMap(({ value, memory }, index) => {
      const rest = memory.subarray(1)
      // All bytes are equal if each is equal to the next.
      if (memory[0] === value && Buffer.compare(rest, memory.subarray(0, -1)) === 0) return []
      const stray = strayIn(memory)
      if (stray !== undefined) return [`piece ${index} has, at ${stray.at}, ${stray.word}`]
      const at = memory.findIndex((byte) => byte !== value)
      return [`piece ${index} has, at ${at}, ${memory[at]} in place of ${value}`]
    })
  }

  /** Drops all pieces. */
  release() {
    this.#taken = []
  }
}
