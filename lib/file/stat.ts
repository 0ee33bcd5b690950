/** The metadata of an open file, under the names of node:fs. */

import { constants } from 'node:fs'
import type { Stat } from '../core/record.ts'

/**
 * The metadata of a file, as in `fs.Stats`. Sizes are in bytes, times in milliseconds since 1970.
 *
 * @example
 * ```ts
 * import { open } from 'deepring'
 *
 * const file = await open('weights.bin', 'w')
 * try {
 *   await file.write(new Uint8Array(1000), { position: 0 })
 *   console.log((await file.stat()).size) // 1000
 * } finally {
 *   await file.close()
 * }
 * ```
 */
export class FileStat {
  /** The device that holds the file. */
  readonly dev: number
  /** The inode number. */
  readonly ino: number
  /** Type and permissions. */
  readonly mode: number
  /** The number of names (hard links). */
  readonly nlink: number
  /** The owner. */
  readonly uid: number
  /** The group. */
  readonly gid: number
  /** The length in bytes, without padding for the device. */
  readonly size: number
  /** The preferred size of a transfer, in bytes. */
  readonly blksize: number
  /** Space the file takes, in units of 512 bytes. */
  readonly blocks: number
  /** When the file was last read. */
  readonly atimeMs: number
  /** When its bytes were last changed. */
  readonly mtimeMs: number
  /** When its metadata was last changed. */
  readonly ctimeMs: number
  /** When it was created; 0 where the file system does not record it. */
  readonly birthtimeMs: number

  /** @param stat - The answer of the binding. */
  constructor(stat: Stat) {
    this.dev = stat.dev
    this.ino = stat.ino
    this.mode = stat.mode
    this.nlink = stat.nlink
    this.uid = stat.uid
    this.gid = stat.gid
    this.size = stat.size
    this.blksize = stat.blockSize
    this.blocks = stat.blocks
    this.atimeMs = stat.atimeMs
    this.mtimeMs = stat.mtimeMs
    this.ctimeMs = stat.ctimeMs
    this.birthtimeMs = stat.birthtimeMs
  }

  /** True for a regular file. */
  isFile(): boolean {
    return (this.mode & constants.S_IFMT) === constants.S_IFREG
  }

  /** True for a block device. For one, `size` is the capacity. */
  isBlockDevice(): boolean {
    return (this.mode & constants.S_IFMT) === (constants.S_IFBLK ?? 0o060000)
  }
}
