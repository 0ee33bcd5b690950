/**
 * Engine memory: buffers that the device can read and write without a copy.
 *
 * Memory from {@link allocateBuffer} starts on a page, is backed by huge pages where they can be had, and is counted: a
 * request under way holds it, whatever happens to the JavaScript object meanwhile. There are two ways for it to go back
 * to the pool: disposal, at once and by hand, or garbage collection, some time. Disposal detaches every view, because
 * memory that is pooled while an old view still reaches it would be shared between strangers. docs/buffers.md tells
 * when each is right.
 */

import type { EngineState } from '../engine/engine-state.ts'
import { connect } from '../core/completions.ts'
import { DeepringError, fromThrown } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'

/**
 * Memory of the engine, as an ordinary `Uint8Array` that starts on a page.
 *
 * Make views of any kind on it (`new Float32Array(memory.buffer, memory.byteOffset, n)`). Disposing it detaches all of
 * them and gives the memory back as soon as requests under way on it have ended; it may be called any number of times.
 * Without disposal, the garbage collector gives it back.
 */
export interface EngineBuffer extends Uint8Array<ArrayBuffer> {
  /** Detaches all views and gives the memory back. */
  [Symbol.dispose](): void
}

/** What is known about a piece of engine memory, found by its `ArrayBuffer`. */
interface Lease {
  readonly byteOffset: number
  readonly byteLength: number
}

// A lease outlives its disposal, so that a request that is still under way can tell engine memory from foreign memory.
const leases = new WeakMap<ArrayBufferLike, Lease>()

/** Allocates `bytes` of engine memory: zeroed, or with whatever the pool last held in it. */
export function allocateBuffer(engine: EngineState, bytes: unknown, zeroed: boolean): EngineBuffer {
  const size = bytesOf(bytes, 'bytes')
  // Nothing needs no page: an empty buffer of JavaScript's own is as aligned as any.
  const memory = size === 0 ? new Uint8Array(0) : fromEngine(engine, size, zeroed)
  Object.defineProperty(memory, Symbol.dispose, { value: disposeSelf, configurable: true })
  return memory as EngineBuffer
}

/** True if `memory` came from an engine: then a request under way keeps it alive, even detached. */
export function isEngineMemory(memory: ArrayBufferLike): boolean {
  return leases.has(memory)
}

/**
 * Gives engine memory back if `view` covers a whole allocation that has not been given back yet; tells whether it did.
 */
export function releaseWhole(view: ArrayBufferView): boolean {
  const lease = leases.get(view.buffer)
  if (lease === undefined || view.byteLength === 0) return false
  if (view.byteOffset !== lease.byteOffset || view.byteLength !== lease.byteLength) return false
  connect().release(view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength))
  return true
}

function fromEngine(engine: EngineState, size: number, zeroed: boolean): Uint8Array {
  let memory: Uint8Array
  try {
    memory = connect().allocate(engine.number, size, zeroed)
  } catch (thrown) {
    const error = fromThrown(thrown)
    if (!isTooLarge(error)) throw error
    // JavaScript has limits of its own on the length of an array; they are answered like the system's.
    throw new DeepringError(`ENOMEM: not enough memory, allocate (${size} bytes: ${error.message})`, {
      code: 'ENOMEM',
      syscall: 'allocate',
      requested: size,
      cause: error,
    })
  }
  leases.set(memory.buffer, { byteOffset: memory.byteOffset, byteLength: memory.byteLength })
  return memory
}

function isTooLarge(error: unknown): error is Error {
  return error instanceof RangeError || (error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE'
}

function disposeSelf(this: Uint8Array): void {
  releaseWhole(this)
}
