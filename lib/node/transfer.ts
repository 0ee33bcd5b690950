/** Reads and writes, block by block: short transfers are continued, the bytes are summed if that was asked for. */

import { crc32c } from './crc32c.ts'
import { errnoOf, failed, failureOf, Failed } from './failure.ts'
import { call, CANCELED, type Steps } from './steps.ts'

/** Bytes per call: 4 MiB, as for devices. A call of more would keep a thread from others, and node:fs takes less than 2 GiB. */
export const BLOCK_BYTES: number = 4 << 20

/** A piece of memory, and where it goes. */
export interface Transfer {
  readonly fd: number
  readonly view: Uint8Array
  /** Bytes of the view when the request was made. */
  readonly requested: number
  readonly position: number
  readonly blockBytes: number
  /** Of a read: fewer bytes are an error. */
  readonly exact: boolean
  /** Whether to sum; a number is the checksum that is expected. */
  readonly sum: boolean | number
}

/** What was moved. */
export interface Moved {
  bytes: number
  blocks: number
  resumed: number
  /** The checksum, if it was asked for. */
  checksum: number | undefined
}

/** Reads up to the end of the memory, or of the file. */
export function* readSteps(transfer: Transfer): Steps<Moved> {
  const { requested, exact, sum } = transfer
  const moved = yield* moveSteps('read', transfer)
  const { bytes, checksum } = moved
  if (exact && bytes < requested)
    throw ended('ERR_DEEPRING_EOF', 'read', 'end of file before the read was complete', transfer, bytes)
  if (typeof sum === 'number' && checksum !== sum) {
    const message = `the checksum of the bytes is ${hexadecimal(checksum ?? 0)}, not ${hexadecimal(sum)}`
    const { position } = transfer
    const fields = { position, requested, transferred: bytes, expected: sum, actual: checksum ?? 0 }
    throw failed('ERR_DEEPRING_CHECKSUM', 'read', message, fields)
  }
  return moved
}

/** Writes all of the memory. */
export function writeSteps(transfer: Transfer): Steps<Moved> {
  return moveSteps('write', transfer)
}

function* moveSteps(name: 'read' | 'write', transfer: Transfer): Steps<Moved> {
  const { fd, view, requested, position, blockBytes, sum } = transfer
  const moved: Moved = { bytes: 0, blocks: 0, resumed: 0, checksum: sum === false ? undefined : 0 }
  let blockEnd = 0
  while (moved.bytes < requested) {
    if (moved.bytes === blockEnd) {
      blockEnd = Math.min(blockEnd + blockBytes, requested)
      moved.blocks += 1
    }
    if (view.byteLength !== requested)
      throw ended('ERR_DEEPRING_INVALID', name, 'its memory was detached', transfer, moved.bytes)
    let bytes: number
    try {
      bytes = yield* call<number>(name, fd, view, moved.bytes, blockEnd - moved.bytes, position + moved.bytes)
    } catch (error) {
      if (error === CANCELED) throw error
      throw new Failed(failureOf(error, name, { position, requested, transferred: moved.bytes }))
    }
    if (bytes === 0) {
      if (name === 'read') break
      throw ended('', name, 'no byte was written', transfer, moved.bytes, errnoOf('EIO'))
    }
    // The memory can be gone by now; the end of the request says so.
    if (moved.checksum !== undefined && view.byteLength === requested)
      moved.checksum = crc32c(view.subarray(moved.bytes, moved.bytes + bytes), moved.checksum)
    moved.bytes += bytes
    if (moved.bytes < blockEnd) moved.resumed += 1
  }
  // What follows a short read is the end of the file, which continues nothing.
  if (moved.bytes < blockEnd && moved.resumed > 0) moved.resumed -= 1
  return moved
}

function ended(
  code: string,
  name: string,
  message: string,
  { position, requested }: Transfer,
  transferred: number,
  errno = 0,
): Failed {
  return failed(code, name, message, { position, requested, transferred, errno })
}

function hexadecimal(sum: number): string {
  return `0x${sum.toString(16).padStart(8, '0')}`
}
