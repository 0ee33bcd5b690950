/**
 * The options of reads and writes, and their keys.
 */

import type { Priority, SignalOptions } from '../core/options.ts'

/** Options of `FileHandle.write`, and those that `read` shares with it. */
export interface WriteOptions extends SignalOptions {
  /** Where in the file, in bytes. Required: a file has no cursor, so `null` is an error. A bigint must be a safe integer, too. */
  position: number | bigint
  /** Where in the buffer to begin, in bytes (not elements). Default 0. */
  offset?: number | bigint | undefined
  /** The number of bytes (not elements). Default: all from `offset` on. */
  length?: number | bigint | undefined
  /** The class of the request. Default: that of the file, see `open`. */
  priority?: Priority | undefined
  /** `'crc32c'`: `receipt.checksum` is the CRC-32C of the bytes. See docs/checksums.md. Default: none. */
  checksum?: 'crc32c' | undefined
}

/** Options of `FileHandle.read`. */
export interface ReadOptions extends WriteOptions {
  /**
   * False: as in Node, fewer bytes are read only if the file ends, and none behind its end; the buffer beyond `bytesRead`
   * is then unchanged, or zero. True: fewer bytes than requested are an error, `ERR_DEEPRING_EOF`. Default false.
   */
  exact?: boolean | undefined
  /**
   * The CRC-32C that the bytes must have, a whole number from 0 to 2^32 - 1. With any other the read fails with
   * `ERR_DEEPRING_CHECKSUM`; the buffer has the bytes. Asks for the checksum, too.
   */
  expect?: number | undefined
}

export const WRITE_KEYS: ReadonlySet<string> = new Set([
  'position',
  'offset',
  'length',
  'priority',
  'checksum',
  'signal',
])
export const READ_KEYS: ReadonlySet<string> = new Set([...WRITE_KEYS, 'exact', 'expect'])
