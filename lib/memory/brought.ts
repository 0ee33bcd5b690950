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

/** Memory that becomes a view at the first look at it, or goes back before. */
export abstract class UnseenMemory {
  /** Makes it a view. `undefined` if it has gone back before. */
  abstract take(): EngineBuffer | undefined

  /** Gives it back. */
  abstract drop(): void
}

/** Memory in the binding, by its number; 0 stands for no bytes. It can be taken once, or given back. */
export class BroughtMemory extends UnseenMemory {
  readonly #number: number
  /** Weak, so that each goes when its own tensors are gone. */
  #together: readonly WeakRef<BroughtMemory>[]
  /** Made with that of another, and not taken yet. */
  #buffer: EngineBuffer | undefined
  #isHere = true

  private constructor(number: number, together: readonly WeakRef<BroughtMemory>[]) {
    super()
    this.#number = number
    this.#together = together
    if (number !== 0) collected.register(this, number, this)
  }

  /**
   * What one job has brought. All of it becomes buffers at the first look at any of it: one by one, each would make the
   * garbage collector run.
   */
  static all(numbers: Uint32Array): readonly BroughtMemory[] {
    const together: WeakRef<BroughtMemory>[] = []
    const all = Array.from(numbers, (number) => new BroughtMemory(number, together))
    together.push(...all.map((memory) => new WeakRef(memory)))
    return all
  }

  /** Makes it a buffer. `undefined` if that has failed before, when another was looked at: then it has gone back. */
  override take(): EngineBuffer | undefined {
    const together = this.#together
    this.#expose()
    for (const each of together) {
      const memory = each.deref()
      try {
        if (memory !== undefined) memory.#expose()
      } catch {
        // A look at that one says so.
      }
    }
    const buffer = this.#buffer
    this.#buffer = undefined
    return buffer
  }

  override drop(): void {
    this.#buffer?.[Symbol.dispose]()
    this.#buffer = undefined
    if (!this.#leave() || this.#number === 0) return
    connect().dropMemory(this.#number)
  }

  #expose(): void {
    this.#together = []
    if (this.#leave()) this.#buffer = takeBuffer(this.#number)
  }

  /** It leaves the binding now, unless it has before. */
  #leave(): boolean {
    const isHere = this.#isHere
    this.#isHere = false
    if (isHere) collected.unregister(this)
    return isHere
  }
}
