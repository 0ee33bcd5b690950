/**
 * Checksums of memory: CRC-32C (Castagnoli), as iSCSI, ext4 and NVMe have it, and as reads and writes report it.
 *
 * All checksums are whole numbers from 0 to 2^32 - 1. They find accidents, not attackers.
 */

import { connect, detachedInFlight, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, type EngineState } from '../core/engine-state.ts'
import { native } from '../core/backend.ts'
import { bytesOf, uint32Of } from '../core/options.ts'
import type { RecordView } from '../core/record.ts'
import { viewOf, type Bytes } from './view.ts'

/**
 * The CRC-32C of memory. Blocks this thread, for about 0.1 s per GB; {@link crc32cAsync} does not.
 *
 * @param buffer - A typed array, a `DataView` or a tensor.
 * @param seed - The checksum of what is before it. Default 0, that of nothing.
 * @throws `ERR_DEEPRING_INVALID_ARG_TYPE`, `ERR_DEEPRING_OUT_OF_RANGE`, `ERR_DEEPRING_DETACHED`; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { crc32c } from 'deepring'
 *
 * const text = new TextEncoder().encode('123456789')
 * console.log(crc32c(text).toString(16)) // e3069283
 * console.log(crc32c(text.subarray(4), crc32c(text.subarray(0, 4))) === crc32c(text)) // true
 * ```
 */
export function crc32c(buffer: Bytes, seed: number = 0): number {
  const view = viewOf(buffer, undefined, undefined)
  return native().crc32C(view, uint32Of(seed, 'seed'))
}

/**
 * The CRC-32C of two pieces of memory one after the other, from their checksums alone. Takes about a microsecond,
 * whatever the length.
 *
 * @param a - The checksum of the first piece.
 * @param b - The checksum of the second.
 * @param lengthOfB - The length of the second, in bytes.
 * @throws `ERR_DEEPRING_INVALID_ARG_TYPE`, `ERR_DEEPRING_OUT_OF_RANGE`; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { crc32c, crc32cCombine } from 'deepring'
 *
 * const text = new TextEncoder().encode('123456789')
 * const [a, b] = [crc32c(text.subarray(0, 4)), crc32c(text.subarray(4))]
 * console.log(crc32cCombine(a, b, 5) === crc32c(text)) // true
 * ```
 */
export function crc32cCombine(a: number, b: number, lengthOfB: number | bigint): number {
  const first = uint32Of(a, 'a')
  const second = uint32Of(b, 'b')
  return native().crc32CCombine(first, second, bytesOf(lengthOfB, 'lengthOfB'))
}

/** The CRC-32C of memory, by a thread of the engine. The memory must not change before the promise settles. */
export function sumLater(engine: EngineState, buffer: Bytes, seed: number): Promise<number> {
  const view = viewOf(buffer, undefined, undefined)
  const start = uint32Of(seed, 'seed')
  checkOpen(engine, 'crc32c')
  const operation = new Operation(nextId(), 'crc32c', finishSum, buffer, view, undefined)
  connect().crc32CLater(operation.id, engine.number, view, start)
  return track<number>(operation, null)
}

function finishSum(operation: Operation, record: RecordView): number {
  if (operation.view?.byteLength !== operation.requested) throw detachedInFlight(operation, 'crc32c')
  return record.checksum
}
