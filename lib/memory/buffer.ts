/**
 * Engine memory: buffers that the device can read and write without a copy.
 *
 * Memory from {@link allocateBuffer} starts on a page, is backed by huge pages where available, and is counted: a
 * request in flight holds it, even if the JavaScript object is gone. It returns to the pool in one of two ways:
 * disposal, by hand and at once, or garbage collection, at some later time. Disposal detaches every view. Otherwise an
 * old view would reach memory that the pool has lent to another caller. docs/buffers.md explains when to use which.
 */

import type { EngineState } from '../core/engine-state.ts'
import { connect } from '../core/completions.ts'
import { DeepringError, fromThrown } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'

/**
 * Memory of the engine, as an ordinary `Uint8Array` that starts on a page.
 *
 * Make views of any kind on it (`new Float32Array(memory.buffer, memory.byteOffset, n)`). Disposing it detaches all of
 * them. The memory returns to the pool as soon as requests in flight on it have settled. It can be disposed more than
 * once. Without disposal, the garbage collector frees it.
 */
export interface EngineBuffer extends Uint8Array<ArrayBuffer> {
  /** Detaches all views and returns the memory. */
  [Symbol.dispose](): void
}

/** The extent of a piece of engine memory, found by its `ArrayBuffer`. */
interface Extent {
  readonly byteOffset: number
  readonly byteLength: number
}

// An extent stays here after the disposal, so that requests in flight still recognize engine memory.
const extents = new WeakMap<ArrayBufferLike, Extent>()

/** Allocates `bytes` of engine memory: zeroed, or with old bytes of this process. */
export function allocateBuffer(engine: EngineState, bytes: unknown, zeroed: boolean): EngineBuffer {
  const size = bytesOf(bytes, 'bytes')
  // An empty buffer needs no page.
  const memory = size === 0 ? new Uint8Array(0) : fromEngine(engine, size, zeroed)
  Object.defineProperty(memory, Symbol.dispose, { value: disposeSelf, configurable: true })
  return memory as EngineBuffer
}

/** True if `memory` came from an engine: then a request in flight keeps it alive, even detached. */
export function isEngineMemory(memory: ArrayBufferLike): boolean {
  return extents.has(memory)
}

/** Frees engine memory if `view` covers a whole allocation that has not been freed. Returns whether it did. */
export function releaseWhole(view: ArrayBufferView): boolean {
  const extent = extents.get(view.buffer)
  if (extent === undefined || view.byteLength === 0) return false
  if (view.byteOffset !== extent.byteOffset || view.byteLength !== extent.byteLength) return false
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
    // JavaScript limits the length of an array; this is reported like the system's ENOMEM.
    throw new DeepringError(`ENOMEM: not enough memory, allocate (${size} bytes: ${error.message})`, {
      code: 'ENOMEM',
      syscall: 'allocate',
      requested: size,
      cause: error,
    })
  }
  extents.set(memory.buffer, { byteOffset: memory.byteOffset, byteLength: memory.byteLength })
  return memory
}

function isTooLarge(error: unknown): error is Error {
  return error instanceof RangeError || (error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE'
}

function disposeSelf(this: Uint8Array): void {
  releaseWhole(this)
}
