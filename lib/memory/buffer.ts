/**
 * Engine memory: buffers that the device can read and write without a copy.
 *
 * Memory from {@link allocateBuffer} starts on a page, is backed by huge pages where available, and is counted: a
 * request in flight holds it, even if the JavaScript object is gone. It returns to the pool in one of two ways:
 * disposal, by hand and at once, or garbage collection, at some later time. Disposal detaches every view. Otherwise an
 * old view would reach memory that the pool has lent to another caller. docs/buffers.md explains when to use which.
 */

import { constants } from 'node:buffer'
import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import type { EngineState } from '../core/engine-state.ts'
import { connect, whenUnused } from '../core/completions.ts'
import { DeepringError, fromThrown, outOfRange } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'
import { refuseTransfers } from './untransferable.ts'

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
  /**
   * False where the runtime refuses external memory (Electron): then this is its own memory, aligned. Detaching it frees
   * it, so that requests on it are waited for.
   */
  readonly leased: boolean
  /** True of memory that a lease of the binding lends: it cannot be given away. */
  readonly lent: boolean
}

/** From this size on, an allocation is compared with what the machine has. */
const HUGE_BYTES = 2 ** 30

// An extent stays here after the disposal, so that requests in flight still recognize engine memory.
const extents = new WeakMap<ArrayBufferLike, Extent>()

/** Allocates `bytes` of engine memory: zeroed, or with old bytes of this process. */
export function allocateBuffer(engine: EngineState, bytes: unknown, zeroed: boolean): EngineBuffer {
  const size = bytesOf(bytes, 'bytes')
  // An empty buffer needs no page.
  return disposable(size === 0 ? new Uint8Array(0) : fromEngine(engine, size, zeroed))
}

/** True if `memory` came from an engine: then a request in flight keeps it alive, even detached. */
export function isEngineMemory(memory: ArrayBufferLike): boolean {
  return extents.get(memory)?.leased === true
}

/** Frees engine memory if `view` covers a whole allocation that has not been freed. Returns whether it did. */
export function releaseWhole(view: ArrayBufferView): boolean {
  const extent = extents.get(view.buffer)
  if (extent === undefined || view.byteLength === 0) return false
  if (view.byteOffset !== extent.byteOffset || view.byteLength !== extent.byteLength) return false
  const whole = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
  if (extent.leased) connect().release(whole)
  else whenUnused(view.buffer, () => connect().release(whole))
  return true
}

/** Whether a view has all bytes of engine memory that the program can give away: what one allocation has returned. */
export function isGiveable(view: Uint8Array): boolean {
  const extent = extents.get(view.buffer)
  if (extent === undefined || !extent.leased || extent.lent) return false
  return view.byteOffset === extent.byteOffset && view.byteLength === extent.byteLength
}

/** Fails for memory of more bytes than a view of this runtime has. */
export function checkViewable(bytes: number): void {
  if (bytes <= constants.MAX_LENGTH) return
  throw new DeepringError(`This runtime has no view of ${bytes} bytes, only of ${constants.MAX_LENGTH}`, {
    code: 'ERR_DEEPRING_OUT_OF_RANGE',
  })
}

/** Takes over engine memory that a job has brought, by its number in the binding; 0 stands for no bytes. */
export function takeBuffer(number: number): EngineBuffer {
  return disposable(number === 0 ? new Uint8Array(0) : adopt(() => connect().takeMemory(number)))
}

/** Memory that a lease of the binding lends. What ends the lease detaches it. */
export function lentBuffer(take: () => Uint8Array<ArrayBuffer>, giveBack: () => void): EngineBuffer {
  const memory = adopt(take, undefined, true)
  Object.defineProperty(memory, Symbol.dispose, { value: giveBack, configurable: true })
  return memory as EngineBuffer
}

function disposable(memory: Uint8Array): EngineBuffer {
  Object.defineProperty(memory, Symbol.dispose, { value: disposeSelf, configurable: true })
  return memory as EngineBuffer
}

function fromEngine(engine: EngineState, size: number, zeroed: boolean): Uint8Array {
  if (size > HUGE_BYTES) checkMachine(size)
  if (size > constants.MAX_LENGTH) throw outOfRange('bytes', `<= ${constants.MAX_LENGTH}, the longest view here`, size)
  return adopt(() => connect().allocate(engine.number, size, zeroed), size)
}

/** Makes memory from the binding known here as the engine's. */
function adopt(take: () => Uint8Array<ArrayBuffer>, size?: number, lent = false): Uint8Array {
  let memory: Uint8Array<ArrayBuffer>
  try {
    memory = take()
  } catch (thrown) {
    const error = fromThrown(thrown)
    if (!isTooLarge(error)) throw error
    throw new DeepringError(`This runtime has no view of ${size ?? 'so many'} bytes: ${error.message}`, {
      code: 'ERR_DEEPRING_OUT_OF_RANGE',
      cause: error,
    })
  }
  const { buffer, byteOffset, byteLength } = memory
  const leased = connect().isAllocated(memory)
  if (leased) refuseTransfers(buffer)
  extents.set(buffer, { byteOffset, byteLength, leased, lent })
  return memory
}

function isTooLarge(error: unknown): error is Error {
  return error instanceof RangeError || (error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE'
}

/**
 * Refuses more than the machine has. Memory is reserved without asking for it, so the system would agree, and end the
 * process when the bytes are used.
 */
function checkMachine(size: number): void {
  const most = machineBytes()
  if (size <= most) return
  throw new DeepringError(
    `ENOMEM: not enough memory, allocate (${size} bytes; this machine has ${most}, swap included)`,
    {
      code: 'ENOMEM',
      syscall: 'allocate',
      requested: size,
    },
  )
}

/** Memory and swap of this machine; unknown where the runtime does not say (Deno without --allow-sys). */
function machineBytes(): number {
  try {
    const kibibytes = /^SwapTotal:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]
    return totalmem() + Number(kibibytes ?? 0) * 1024
  } catch {
    return Infinity
  }
}

function disposeSelf(this: Uint8Array): void {
  releaseWhole(this)
}
