/** The checksums of a range of a file. */

import { Buffer } from 'node:buffer'
import type { BigIntStats } from 'node:fs'
import { crc32c } from './crc32c.ts'
import { failed } from './failure.ts'
import { call, type Steps } from './steps.ts'

/** Bytes that are read and summed at once. */
const PART_BYTES = 1 << 20

/** Checksums of one call: as many as the native engine gives. */
const SUMS_MAX = 2 ** 24

/**
 * Sums a range, up to the end of the file if `length` is negative: one checksum for each `chunk`, or one of all if that is 0.
 */
export function* sumSteps(fd: number, position: number, length: number, chunk: number): Steps<Uint32Array> {
  const { size } = yield* call<BigIntStats>('fstat', fd, { bigint: true })
  const end = length < 0 ? Math.max(position, Number(size)) : position + length
  const total = end - position
  const count = chunk > 0 ? Math.ceil(total / chunk) : 1
  if (count > SUMS_MAX)
    throw failed(
      'ERR_DEEPRING_INVALID',
      'read',
      `invalid argument (chunks of ${chunk} bytes are more than ${SUMS_MAX})`,
    )
  const sums = new Uint32Array(count)
  const part = Buffer.allocUnsafe(Math.min(PART_BYTES, total))
  let done = 0
  for (let nth = 0; nth < count; nth += 1) {
    const until = chunk > 0 ? Math.min((nth + 1) * chunk, total) : total
    while (done < until) {
      const wanted = Math.min(part.length, until - done)
      const bytes = yield* call<number>('read', fd, part, 0, wanted, position + done)
      if (bytes === 0) {
        const fields = { position, requested: total, transferred: done }
        throw failed('ERR_DEEPRING_EOF', 'read', 'end of file before the read was complete', fields)
      }
      sums[nth] = crc32c(part.subarray(0, bytes), sums[nth])
      done += bytes
    }
  }
  return sums
}
