/**
 * Memory for transfers: ordinary `ArrayBuffer`s of whole pages, which the garbage collector frees. What jobs have brought
 * waits here until it is taken.
 */

import type { Native } from '../core/native.ts'
import { errnoOf, failure } from './failure.ts'

const PAGE_BYTES = 4096

/** What an engine has lent. */
interface Lent {
  buffers: number
  bufferBytes: number
}

export class Memory {
  /** By the numbers of engines. */
  readonly #lent = new Map<number, Lent>()
  readonly #brought = new Map<number, Uint8Array<ArrayBuffer>>()
  readonly #collected = new FinalizationRegistry<() => void>((giveBack) => giveBack())
  readonly #giveBack = new WeakMap<ArrayBuffer, () => void>()

  /** What `stats()` says of it. */
  statsOf(engine: number): Readonly<Lent> {
    return { ...this.#lentBy(engine) }
  }

  /**
   * See `Native.allocate`.
   *
   * @param returned - Called when it was released, or collected.
   */
  allocate(engine: number, bytes: number, returned: () => void = () => {}): Uint8Array<ArrayBuffer> {
    const size = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
    let memory: ArrayBuffer
    try {
      memory = new ArrayBuffer(size)
    } catch (error) {
      const message = String((error as Error).message)
      const fields = { errno: errnoOf('ENOMEM'), requested: bytes }
      throw Object.assign(new Error(message), { failure: failure('', 'allocate', message, fields) })
    }
    const lent = this.#lentBy(engine)
    lent.buffers += 1
    lent.bufferBytes += size
    const giveBack = (): void => {
      lent.buffers -= 1
      lent.bufferBytes -= size
      returned()
    }
    this.#giveBack.set(memory, giveBack)
    this.#collected.register(memory, giveBack, memory)
    return new Uint8Array(memory, 0, bytes)
  }

  /** See `Native.release`. */
  release({ buffer }: Uint8Array<ArrayBuffer>): void {
    this.#collected.unregister(buffer)
    this.#giveBack.get(buffer)?.()
    this.#giveBack.delete(buffer)
    structuredClone(null, { transfer: [buffer] })
  }

  /** Keeps memory until it is taken by this number. */
  bring(number: number, memory: Uint8Array<ArrayBuffer>): number {
    this.#brought.set(number, memory)
    return number
  }

  /** See `Native.takeMemory`. */
  take(number: number): Uint8Array<ArrayBuffer> {
    const memory = this.#brought.get(number)
    if (memory === undefined) throw new RangeError(`memory ${number} does not exist in this environment`)
    this.#brought.delete(number)
    return memory
  }

  /** See `Native.dropMemory`. */
  drop(number: number): void {
    const memory = this.#brought.get(number)
    this.#brought.delete(number)
    if (memory !== undefined) this.release(memory)
  }

  #lentBy(engine: number): Lent {
    let lent = this.#lent.get(engine)
    if (lent === undefined) {
      lent = { buffers: 0, bufferBytes: 0 }
      this.#lent.set(engine, lent)
    }
    return lent
  }
}

/** The functions of the binding for memory. */
export function memoryOf(
  memory: Memory,
): Pick<Native, 'allocate' | 'release' | 'isAllocated' | 'takeMemory' | 'dropMemory'> {
  return {
    allocate: (engine, bytes) => memory.allocate(engine, bytes),
    release: (view) => memory.release(view as Uint8Array<ArrayBuffer>),
    // So requests on it are waited for before it is detached: nothing else keeps it.
    isAllocated: () => false,
    takeMemory: (number) => memory.take(number),
    dropMemory: (number) => memory.drop(number),
  }
}
