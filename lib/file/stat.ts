/** The metadata of an open file, under the names of node:fs. */

import { constants } from 'node:fs'
import type { Operation } from '../core/operation.ts'
import type { SignalOptions } from '../core/options.ts'
import type { RecordView, Stat } from '../core/record.ts'

/** Options of `FileHandle.stat`. */
export interface StatOptions extends SignalOptions {
  /** True: numbers are bigints, which hold 64 bits exactly. Default false. */
  bigint?: boolean | undefined
}

export const STAT_KEYS: ReadonlySet<string> = new Set(['bigint', 'signal'])

/** What both kinds of metadata have: what a file is, and its times as dates. */
abstract class Metadata {
  abstract readonly mode: number | bigint
  abstract readonly atimeMs: number | bigint
  abstract readonly mtimeMs: number | bigint
  abstract readonly ctimeMs: number | bigint
  abstract readonly birthtimeMs: number | bigint

  /** When the file was last read. */
  get atime(): Date {
    return dateOf(this.atimeMs)
  }

  /** When its bytes were last changed. */
  get mtime(): Date {
    return dateOf(this.mtimeMs)
  }

  /** When its metadata was last changed. */
  get ctime(): Date {
    return dateOf(this.ctimeMs)
  }

  /** When it was created; 1970 where the file system does not record it. */
  get birthtime(): Date {
    return dateOf(this.birthtimeMs)
  }

  /** True for a regular file. */
  isFile(): boolean {
    return this.#is(constants.S_IFREG)
  }

  /** True for a block device. For one, `size` is the capacity. */
  isBlockDevice(): boolean {
    return this.#is(constants.S_IFBLK ?? 0o060000)
  }

  /** False: directories are not opened. For code that asks any `fs.Stats`, as the next four. */
  isDirectory(): boolean {
    return this.#is(constants.S_IFDIR)
  }

  /** False: links are followed. */
  isSymbolicLink(): boolean {
    return this.#is(constants.S_IFLNK)
  }

  /** False: character devices are not opened. */
  isCharacterDevice(): boolean {
    return this.#is(constants.S_IFCHR)
  }

  /** False: pipes are not opened. */
  isFIFO(): boolean {
    return this.#is(constants.S_IFIFO ?? 0o010000)
  }

  /** False: sockets are not opened. */
  isSocket(): boolean {
    return this.#is(constants.S_IFSOCK ?? 0o140000)
  }

  #is(kind: number): boolean {
    return (Number(this.mode) & constants.S_IFMT) === kind
  }
}

/** Node rounds, too. */
function dateOf(ms: number | bigint): Date {
  return new Date(Math.round(Number(ms)))
}

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
export class FileStat extends Metadata {
  /** The device that holds the file. */
  readonly dev: number
  /**
   * The inode number: a bigint where it is larger than `Number.MAX_SAFE_INTEGER`, as on CephFS, NFS and large XFS.
   * Rounded to a number, it could be that of another file.
   */
  readonly ino: number | bigint
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

  /**
   * @param stat - The answer of the binding.
   * @internal
   */
  constructor(stat: Stat) {
    super()
    this.dev = Number(stat.dev)
    this.ino = stat.ino > Number.MAX_SAFE_INTEGER ? stat.ino : Number(stat.ino)
    this.mode = stat.mode
    this.nlink = stat.nlink
    this.uid = stat.uid
    this.gid = stat.gid
    this.size = Number(stat.size)
    this.blksize = stat.blockSize
    this.blocks = Number(stat.blocks)
    this.atimeMs = Number(stat.atimeNs) / 1e6
    this.mtimeMs = Number(stat.mtimeNs) / 1e6
    this.ctimeMs = Number(stat.ctimeNs) / 1e6
    this.birthtimeMs = Number(stat.birthtimeNs) / 1e6
  }
}

/**
 * The metadata of a file with exact numbers, as in `fs.BigIntStats`: what `stat({ bigint: true })` resolves to.
 *
 * @example
 * ```ts
 * import { open } from 'deepring'
 *
 * const file = await open('weights.bin', 'w')
 * try {
 *   const { ino, size, mtimeNs } = await file.stat({ bigint: true })
 *   console.log(typeof ino, size, mtimeNs > 0n) // bigint 0n true
 * } finally {
 *   await file.close()
 * }
 * ```
 */
export class BigIntFileStat extends Metadata {
  /** The device that holds the file. */
  readonly dev: bigint
  /** The inode number. */
  readonly ino: bigint
  /** Type and permissions. */
  readonly mode: bigint
  /** The number of names (hard links). */
  readonly nlink: bigint
  /** The owner. */
  readonly uid: bigint
  /** The group. */
  readonly gid: bigint
  /** The length in bytes, without padding for the device. */
  readonly size: bigint
  /** The preferred size of a transfer, in bytes. */
  readonly blksize: bigint
  /** Space the file takes, in units of 512 bytes. */
  readonly blocks: bigint
  /** When the file was last read, in milliseconds, cut off. */
  readonly atimeMs: bigint
  /** When its bytes were last changed. */
  readonly mtimeMs: bigint
  /** When its metadata was last changed. */
  readonly ctimeMs: bigint
  /** When it was created; 0 where the file system does not record it. */
  readonly birthtimeMs: bigint
  /** When the file was last read, in nanoseconds. */
  readonly atimeNs: bigint
  /** When its bytes were last changed. */
  readonly mtimeNs: bigint
  /** When its metadata was last changed. */
  readonly ctimeNs: bigint
  /** When it was created; 0 where the file system does not record it. */
  readonly birthtimeNs: bigint

  /**
   * @param stat - The answer of the binding.
   * @internal
   */
  constructor(stat: Stat) {
    super()
    this.dev = stat.dev
    this.ino = stat.ino
    this.mode = BigInt(stat.mode)
    this.nlink = BigInt(stat.nlink)
    this.uid = BigInt(stat.uid)
    this.gid = BigInt(stat.gid)
    this.size = stat.size
    this.blksize = BigInt(stat.blockSize)
    this.blocks = stat.blocks
    this.atimeMs = stat.atimeNs / NS_PER_MS
    this.mtimeMs = stat.mtimeNs / NS_PER_MS
    this.ctimeMs = stat.ctimeNs / NS_PER_MS
    this.birthtimeMs = stat.birthtimeNs / NS_PER_MS
    this.atimeNs = stat.atimeNs
    this.mtimeNs = stat.mtimeNs
    this.ctimeNs = stat.ctimeNs
    this.birthtimeNs = stat.birthtimeNs
  }
}

/** The result in numbers. */
export function finishStat(_operation: Operation, { detail }: RecordView): FileStat {
  return new FileStat(detail as Stat)
}

/** The result in bigints. */
export function finishBigIntStat(_operation: Operation, { detail }: RecordView): BigIntFileStat {
  return new BigIntFileStat(detail as Stat)
}

const NS_PER_MS = 1_000_000n
