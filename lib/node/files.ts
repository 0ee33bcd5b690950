/** Open files: opening and closing them, and what is asked of them besides transfers. */

import { Buffer } from 'node:buffer'
import { constants, type BigIntStats } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { OPEN, type Opened, type Stat } from '../core/record.ts'
import { errnoOf, failed } from './failure.ts'
import { enterInode, leaveInode, type Inode } from './inode.ts'
import type { NodeEngine } from './engine.ts'
import { call, wait, type Steps } from './steps.ts'

/** An open file. */
export interface NodeFile {
  readonly number: number
  readonly fd: number
  /** Where it was when it was opened. */
  readonly path: string | Buffer
  /** Another descriptor of it, for appends; once there was one. */
  appending: number | undefined
  readonly engine: NodeEngine
  readonly key: string
  readonly inode: Inode
  /** Class of requests that name none. */
  readonly priority: number
  /** Requests on it that have not ended. */
  uses: number
  /** Called when there are none any more. */
  unused: (() => void) | undefined
}

/** A file that was opened. */
export interface Descriptor {
  readonly fd: number
  readonly path: string | Buffer
  readonly key: string
}

const WINDOWS = process.platform === 'win32'
const SLASH = 0x2f

/** A path as it is meant now, also if the working directory changes. */
export function pathNow(bytes: Uint8Array): string | Buffer {
  const path = Buffer.from(bytes)
  // Windows has paths in UTF-16 only.
  if (WINDOWS) return path.length === 0 ? '' : resolve(path.toString())
  if (path.length === 0 || path[0] === SLASH) return path
  try {
    return Buffer.concat([Buffer.from(`${process.cwd()}/`), path])
  } catch {
    // There is no such directory any more: the call says so.
    return path
  }
}

/** The directory of a path, and its last part. */
export function splitPath(path: string | Buffer): { readonly directory: string | Buffer; readonly name: string } {
  // In latin1, each byte is a character.
  const text = typeof path === 'string' ? path : path.toString('latin1')
  const directory = dirname(text)
  const name = text
    .replace(/[/\\]+$/, '')
    .slice(directory.length)
    .replace(/^[/\\]/, '')
  return { directory: typeof path === 'string' ? directory : Buffer.from(directory, 'latin1'), name }
}

/** What names a file, under all its paths. */
export function keyOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`
}

/** Opens a file. Anything but a file or a block device is refused, before anything is changed. */
export function* openSteps(
  path: string | Buffer,
  flags: number,
  mode: number,
  syncDirectory = false,
): Steps<Descriptor> {
  const fd = yield* openDescriptor(path, flags, mode)
  try {
    const stat = yield* call<BigIntStats>('fstat', fd, { bigint: true })
    if (stat.isDirectory()) throw failed('', 'open', 'illegal operation on a directory', { errno: errnoOf('EISDIR') })
    if (!stat.isFile() && !stat.isBlockDevice())
      throw failed('ERR_DEEPRING_UNSUPPORTED', 'open', 'not a regular file or a block device')
    if ((flags & OPEN.truncate) !== 0 && stat.size > 0n && stat.isFile()) yield* call('ftruncate', fd, 0)
    if (syncDirectory) yield* syncDirectoryOf(path)
    return { fd, path, key: keyOf(stat) }
  } catch (error) {
    yield* call('close', fd)
    throw error
  }
}

function* openDescriptor(path: string | Buffer, flags: number, mode: number): Steps<number> {
  const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK = 0 } = constants
  const has = (flag: number): boolean => (flags & flag) !== 0
  const created = (has(OPEN.create) ? O_CREAT : 0) | (has(OPEN.exclusive) ? O_CREAT | O_EXCL : 0)
  // Without waiting for the other end of a pipe.
  const rest = created | O_NONBLOCK
  if (!has(OPEN.write)) return yield* call<number>('open', path, O_RDONLY | rest, mode)
  try {
    return yield* call<number>('open', path, O_RDWR | rest, mode)
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'EACCES') throw error
    // A file that can be written and not read.
    return yield* call<number>('open', path, O_WRONLY | rest, mode)
  }
}

/** Flushes the name of a file. On Windows, a directory cannot be opened for that. */
export function* syncDirectoryOf(path: string | Buffer): Steps<void> {
  if (WINDOWS) return
  const { directory } = splitPath(path)
  const fd = yield* call<number>('open', directory, constants.O_RDONLY)
  try {
    yield* flushSteps('fsync', fd, directory)
  } finally {
    yield* call('close', fd)
  }
}

/** What Node's permission model refuses by a descriptor. */
export function isDenied(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'ERR_ACCESS_DENIED'
}

/**
 * Flushes an open file. Node's permission model allows that by a handle of its own alone: then it is opened once more, and
 * must be the same file, if that is named.
 */
export function* flushSteps(name: 'fsync' | 'fdatasync', fd: number, path: string | Buffer, key?: string): Steps<void> {
  try {
    yield* call(name, fd)
  } catch (error) {
    if (!isDenied(error)) throw error
    let thrown: unknown
    yield* wait(flushByHandle(path, key, error).catch((reason: unknown) => void (thrown = reason)))
    if (thrown !== undefined) throw thrown
  }
}

async function flushByHandle(path: string | Buffer, key: string | undefined, otherwise: unknown): Promise<void> {
  const handle = await open(path, constants.O_RDONLY)
  try {
    if (key !== undefined && keyOf(await handle.stat({ bigint: true })) !== key) throw otherwise
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes an open file of a descriptor. */
export function fileOf(number: number, engine: NodeEngine, { fd, path, key }: Descriptor, priority: number): NodeFile {
  return {
    number,
    fd,
    path,
    appending: undefined,
    engine,
    key,
    inode: enterInode(key),
    priority,
    uses: 0,
    unused: undefined,
  }
}

/** What is reported of an open file. */
export function openedOf({ number }: NodeFile): Opened {
  return {
    file: number,
    direct: false,
    directReason: 'node:fs has no direct I/O',
    offsetAlignment: 1,
    memoryAlignment: 1,
    locksReason: 'node:fs has no locks',
  }
}

/** Closes a file when the requests on it have ended. */
export function* closeSteps(file: NodeFile): Steps<void> {
  if (file.uses > 0) yield* wait(new Promise<void>((unused) => void (file.unused = unused)))
  leaveInode(file.key, file.inode)
  if (file.appending !== undefined) yield* call('close', file.appending)
  yield* call('close', file.fd)
}

/** Flushes a file after all writes of this thread that were accepted before. */
export function* syncSteps(
  { fd, path, key, inode }: NodeFile,
  dataOnly: boolean,
  before: Promise<unknown> | undefined,
): Steps<void> {
  const name = dataOnly ? 'fdatasync' : 'fsync'
  if (before !== undefined) yield* wait(before)
  if (inode.syncErrno !== 0)
    throw failed('ERR_DEEPRING_SYNC_FAILED', name, 'an earlier fsync of this file failed', { errno: inode.syncErrno })
  try {
    yield* flushSteps(name, fd, path, key)
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException
    if (typeof errno === 'number' && errno !== errnoOf('EINTR')) inode.syncErrno = errno
    throw error
  }
}

/** Cuts or extends a file, while no write of this thread is at work. */
export function* truncateSteps({ fd, inode }: NodeFile, size: number): Steps<void> {
  const { before, leave } = inode.enterAlone()
  try {
    yield* wait(before)
    yield* call('ftruncate', fd, size)
  } finally {
    leave()
  }
}

export function* statSteps({ fd }: NodeFile): Steps<Stat> {
  const stat = yield* call<BigIntStats>('fstat', fd, { bigint: true })
  return {
    size: stat.size,
    blocks: stat.blocks,
    blockSize: Number(stat.blksize),
    dev: stat.dev,
    ino: stat.ino,
    mode: Number(stat.mode),
    nlink: Number(stat.nlink),
    uid: Number(stat.uid),
    gid: Number(stat.gid),
    atimeNs: stat.atimeNs,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    birthtimeNs: stat.birthtimeNs,
  }
}
