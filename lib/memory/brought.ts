/**
 * Memory that a job has brought and that nobody has looked at: {@link BroughtMemory}.
 *
 * It has no `ArrayBuffer` before: that is what the garbage collector counts, and a model of gigabytes that became so many
 * at once would make it collect while the event loop waits.
 */

import { connect } from '../core/completions.ts'
import { takeBuffer, type EngineBuffer } from './buffer.ts'

/** What was collected without a look at it. */
const collected = new FinalizationRegistry<number>((number) => connect().dropMemory(number))

/** Memory in the binding, by its number; 0 stands for no bytes. It can be taken once, or given back. */
export class BroughtMemory {
  readonly #number: number

  constructor(number: number) {
    this.#number = number
    if (number !== 0) collected.register(this, number, this)
  }

  /** Makes it a buffer. */
  take(): EngineBuffer {
    collected.unregister(this)
    return takeBuffer(this.#number)
  }

  /** Gives it back. */
  drop(): void {
    collected.unregister(this)
    if (this.#number !== 0) connect().dropMemory(this.#number)
  }
}
