/** What is known about an open file, under the names of node:fs. */

import { constants } from 'node:fs'
import type { Stat } from '../core/record.ts'

/**
 * The facts about a file, as `fs.Stats` has them. All sizes are in bytes, all times in milliseconds since 1970.
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
  /** The number of the file on its device. */
  readonly ino: number
  /** Type and permissions. */
  readonly mode: number
  /** Names that the file has. */
  readonly nlink: number
  /** The owner. */
  readonly uid: number
  /** The group. */
  readonly gid: number
  /** The length in bytes. Whatever was padded for the device is not in it. */
  readonly size: number
  /** The preferred size of a transfer, in bytes. */
  readonly blksize: number
  /** Space the file takes, in units of 512 bytes. */
  readonly blocks: number
  /** When the file was last read. */
  readonly atimeMs: number
  /** When its bytes were last changed. */
  readonly mtimeMs: number
  /** When its facts were last changed. */
  readonly ctimeMs: number
  /** When it was created; 0 where the file system does not tell. */
  readonly birthtimeMs: number

  /** @param stat - What the binding tells. */
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
