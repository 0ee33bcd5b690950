/**
 * The options of a file's calls, and their keys.
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
}

/** Options of `FileHandle.read`. */
export interface ReadOptions extends WriteOptions {
  /**
   * False: as in Node, fewer bytes are read only if the file ends, and none behind its end; the buffer beyond `bytesRead`
   * is then unchanged, or zero. True: fewer bytes than requested are an error, `ERR_DEEPRING_EOF`. Default false.
   */
  exact?: boolean | undefined
}

/** The alignment of direct transfers on a file, in bytes. */
export interface Alignment {
  /** For positions in the file and for lengths. */
  readonly offset: number
  /** For addresses in memory. */
  readonly memory: number
}

/** Options of `FileHandle.stat`. */
export interface StatOptions extends SignalOptions {
  /** True: numbers are bigints, which hold 64 bits exactly. Default false. */
  bigint?: boolean | undefined
}

export const STAT_KEYS: ReadonlySet<string> = new Set(['bigint', 'signal'])
export const WRITE_KEYS: ReadonlySet<string> = new Set(['position', 'offset', 'length', 'priority', 'signal'])
export const READ_KEYS: ReadonlySet<string> = new Set([...WRITE_KEYS, 'exact'])
