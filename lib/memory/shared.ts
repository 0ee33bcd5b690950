/** Memory that all threads of JavaScript see at once: {@link allocateShared}. */

import { constants } from 'node:buffer'
import { DeepringError, outOfRange } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'

/** Newer than the oldest library of TypeScript. */
interface GrowableConstructor {
  new (byteLength: number, options: { maxByteLength: number }): SharedArrayBuffer
}

/**
 * Allocates zeroed memory that starts on a page and that workers share without a copy: post it, and all see the same bytes.
 * Transfers use it as they use memory of `allocate`. While a request is in flight, no thread may touch its part of the memory.
 *
 * It belongs to the runtime, and goes when no thread has it any more: it cannot be detached, so there is nothing to dispose.
 *
 * @param bytes - The size, 0 or more.
 * @throws `ENOMEM`; `ERR_DEEPRING_OUT_OF_RANGE`.
 *
 * @example
 * ```ts
 * import { allocateShared, open } from 'deepring'
 *
 * const memory = allocateShared(4096)
 * const file = await open('weights.bin')
 * const { bytesRead, receipt } = await file.read(memory, { position: 0, length: 512 })
 * console.log(bytesRead, memory.buffer instanceof SharedArrayBuffer, receipt.bounced) // 512 true 0
 * await file.close()
 * ```
 */
export function allocateShared(bytes: number | bigint): Uint8Array<SharedArrayBuffer> {
  const size = bytesOf(bytes, 'bytes')
  if (size > constants.MAX_LENGTH) throw outOfRange('bytes', `<= ${constants.MAX_LENGTH}, the longest view here`, size)
  if (size === 0) return new Uint8Array(new SharedArrayBuffer(0))
  try {
    // Only memory that could grow gets pages of its own from the runtime.
    const memory = new (SharedArrayBuffer as unknown as GrowableConstructor)(size, { maxByteLength: size })
    return new Uint8Array(memory, 0, size)
  } catch (cause) {
    throw new DeepringError(`ENOMEM: not enough memory, allocate (${size} shared bytes)`, {
      code: 'ENOMEM',
      syscall: 'allocate',
      requested: size,
      cause,
    })
  }
}
