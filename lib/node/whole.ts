/** What whole files need: files that take the place of others, appends, and what a copy takes over beside the bytes. */

import { Buffer } from 'node:buffer'
import { constants, type BigIntStats } from 'node:fs'
import { join } from 'node:path'
import type { Native } from '../core/native.ts'
import type { ReplaceRequest } from '../core/record.ts'
import { openUnlessDirect } from './controls.ts'
import { errnoOf, failed, Failed, failureOf, unsupportedCall } from './failure.ts'
import {
  flushSteps,
  isDenied,
  keyOf,
  openedOf,
  pathNow,
  splitPath,
  syncDirectoryOf,
  type Descriptor,
  type NodeFile,
} from './files.ts'
import { known, type Session } from './session.ts'
import { call, CANCELED, wait, type Steps } from './steps.ts'

/** A file that will take the place of another one. */
export interface Replacement {
  readonly path: string | Buffer
  readonly temporary: string | Buffer
  /** The permissions of the old file; `undefined` if there is none. */
  readonly mode: number | undefined
  readonly durable: boolean
}

/** The most bytes that node:fs takes in one call. */
const CALL_BYTES_MAX = 2 ** 31 - 4096

/** Names that are tried for a temporary file. */
const NAMES_MAX = 10_000

/** What a file system takes as a name, in bytes. */
const NAME_BYTES_MAX = 255

/** Until it has the permissions of the old file, no other user can read what is written. */
const PRIVATE = 0o600

/** The number in the next temporary name. */
let nextNumber = 0

/** Makes the file, beside the one whose place it will take. */
export function* replaceSteps(
  path: string | Buffer,
  request: ReplaceRequest,
): Steps<Descriptor & { readonly replacement: Replacement }> {
  if (path.length === 0) throw failed('', 'open', 'no such file or directory', { errno: errnoOf('ENOENT') })
  const mode = yield* oldMode(path)
  const { O_RDWR, O_CREAT, O_EXCL } = constants
  for (let tries = 0; ; tries += 1) {
    const temporary = temporaryName(path)
    let fd: number
    try {
      fd = yield* call<number>(
        'open',
        temporary,
        O_RDWR | O_CREAT | O_EXCL,
        mode === undefined ? request.mode : PRIVATE,
      )
    } catch (error) {
      if ((error as { code?: unknown }).code === 'EEXIST' && tries < NAMES_MAX) continue
      throw error
    }
    try {
      if (request.size > 0) yield* call('ftruncate', fd, request.size)
      const stat = yield* call<BigIntStats>('fstat', fd, { bigint: true })
      const replacement = { path, temporary, mode, durable: request.durable }
      return { fd, path: temporary, key: keyOf(stat), replacement }
    } catch (error) {
      yield* call('close', fd)
      yield* call('unlink', temporary)
      throw error
    }
  }
}

/** The permissions of what is replaced. Refuses what is not to be replaced. */
function* oldMode(path: string | Buffer): Steps<number | undefined> {
  let stat: BigIntStats
  try {
    stat = yield* call<BigIntStats>('lstat', path, { bigint: true })
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw new Failed(failureOf(error, 'open'))
    return undefined
  }
  if (stat.isDirectory()) throw failed('', 'open', 'illegal operation on a directory', { errno: errnoOf('EISDIR') })
  if (stat.isSymbolicLink()) return undefined
  if (!stat.isFile()) {
    const advice = 'a device, a pipe or a socket is not replaced by a file'
    throw failed('ERR_DEEPRING_UNSUPPORTED', 'open', `not a regular file or a block device (${advice})`)
  }
  return Number(stat.mode & 0o777n)
}

/** `.NAME.PROCESS-NUMBER.tmp` in the same directory. */
function temporaryName(path: string | Buffer): string | Buffer {
  const { directory, name } = splitPath(path)
  const ending = `.${process.pid}-${(nextNumber += 1)}.tmp`
  const short = name.slice(0, NAME_BYTES_MAX - 1 - ending.length)
  if (typeof directory === 'string') return join(directory, `.${short}${ending}`)
  return Buffer.concat([directory, Buffer.from(`/.${short}${ending}`, 'latin1')])
}

/** Flushes a file. Its permissions can forbid to read it, or to write it. */
function* flushNew(path: string | Buffer): Steps<void> {
  const { O_RDWR, O_RDONLY, O_WRONLY } = constants
  for (const access of [O_RDWR, O_RDONLY, O_WRONLY]) {
    let fd: number
    try {
      fd = yield* call<number>('open', path, access)
    } catch (error) {
      if ((error as { code?: unknown }).code === 'EACCES' && access !== O_WRONLY) continue
      throw error
    }
    try {
      yield* flushSteps('fsync', fd, path)
    } finally {
      yield* call('close', fd)
    }
    return
  }
}

/** Gives the file its name. */
export function* commitSteps({ path, temporary, mode, durable }: Replacement): Steps<void> {
  try {
    if (durable) yield* flushNew(temporary)
    if (mode !== undefined) yield* call('chmod', temporary, mode)
    yield* call('rename', temporary, path)
  } catch (error) {
    yield* call('unlink', temporary)
    throw error
  }
  if (!durable) return
  try {
    yield* syncDirectoryOf(path)
  } catch (error) {
    const { errno, syscall, message } = failureOf(error, 'fsync')
    const sentence = `the new name is there, but flushing its directory failed: ${message}`
    throw failed('ERR_DEEPRING_UNCERTAIN', syscall, sentence, { errno })
  }
}

/**
 * The descriptor by which the kernel finds the end for each write, so that others can append at the same time; `undefined`
 * if the path leads to another file by now.
 */
function* appendingOf(file: NodeFile): Steps<number | undefined> {
  if (file.appending !== undefined) return file.appending
  let fd: number
  try {
    fd = yield* call<number>('open', file.path, constants.O_WRONLY | constants.O_APPEND)
  } catch (error) {
    if (error === CANCELED) throw error
    return undefined
  }
  const stat = yield* call<BigIntStats>('fstat', fd, { bigint: true })
  if (keyOf(stat) === file.key) return (file.appending = fd)
  yield* call('close', fd)
  return undefined
}

/** Puts bytes behind the end of a file, while no write of this thread is at work. */
function* appendSteps(file: NodeFile, view: Uint8Array): Steps<number> {
  const { inode } = file
  const { byteLength: requested } = view
  const { before, leave } = inode.enterAlone()
  let position = 0
  let done = 0
  try {
    yield* wait(before)
    const appending = yield* appendingOf(file)
    const fd = appending ?? file.fd
    position = Number((yield* call<BigIntStats>('fstat', fd, { bigint: true })).size)
    while (done < requested) {
      if (view.byteLength !== requested) throw failed('ERR_DEEPRING_INVALID', 'write', 'its memory was detached')
      // In one call, so that nothing comes between its bytes.
      const part = Math.min(CALL_BYTES_MAX, requested - done)
      done += yield* call<number>('write', fd, view, done, part, appending === undefined ? position + done : null)
    }
    return done
  } catch (error) {
    if (error === CANCELED || error instanceof Failed) throw error
    throw new Failed(failureOf(error, 'write', { position, requested, transferred: done }))
  } finally {
    leave()
  }
}

/** Gives a file the times of another, and its permissions. */
function* metadataSteps(to: NodeFile, from: NodeFile, withMode: boolean): Steps<void> {
  const stat = yield* call<BigIntStats>('fstat', from.fd, { bigint: true })
  const mode = Number(stat.mode & 0o777n)
  const times = [Number(stat.atimeNs) / 1e9, Number(stat.mtimeNs) / 1e9]
  try {
    if (withMode) yield* call('fchmod', to.fd, mode)
    yield* call('futimes', to.fd, ...times)
  } catch (error) {
    if (!isDenied(error)) throw error
    if (withMode) yield* call('chmod', to.path, mode)
    yield* call('utimes', to.path, ...times)
  }
}

/** The functions of the binding for whole files. */
export function wholeOf(
  session: Session,
): Pick<
  Native,
  | 'replaceFile'
  | 'commitReplacement'
  | 'abandonReplacement'
  | 'append'
  | 'allocateRange'
  | 'cloneRange'
  | 'dataRanges'
  | 'takeMetadata'
> {
  const replacements = new Map<number, Replacement & { readonly engine: number }>()
  const ending = (
    id: number,
    number: number,
    syscall: string,
    steps: (replacement: Replacement) => Steps<void>,
  ): void => {
    const replacement = known(replacements, number, 'replacement')
    replacements.delete(number)
    const engine = session.engine(replacement.engine)
    session.record(id, { engine, syscall, steps: steps(replacement) })
  }
  return {
    replaceFile(id, engineNumber, path, request) {
      const engine = session.engine(engineNumber)
      const steps = replaceSteps(pathNow(path), request)
      session.record(
        id,
        { engine, syscall: 'open', steps: openUnlessDirect(request.direct, steps) as typeof steps },
        ({ replacement, ...descriptor }) => {
          const number = session.number()
          replacements.set(number, { ...replacement, engine: engineNumber })
          return [{}, { opened: openedOf(session.addFile(engine, descriptor, 0)), replacement: number }]
        },
      )
    },
    commitReplacement: (id, number) => ending(id, number, 'rename', commitSteps),
    abandonReplacement: (id, number) => ending(id, number, 'unlink', ({ temporary }) => call('unlink', temporary)),
    append(id, number, view) {
      const file = session.file(number)
      session.record(
        id,
        { engine: file.engine, file, syscall: 'write', steps: appendSteps(file, view) },
        (transferred) => [{ transferred }],
      )
    },
    allocateRange(id) {
      session.delivery.fail(id, unsupportedCall('fallocate').failure)
    },
    cloneRange(id) {
      session.delivery.fail(id, unsupportedCall('copy').failure)
    },
    dataRanges(id, number, start, end) {
      // node:fs does not know where holes are: all is data.
      const file = session.file(number)
      const steps = call<BigIntStats>('fstat', file.fd, { bigint: true })
      session.record(id, { engine: file.engine, file, syscall: 'lseek', steps }, ({ size }) => {
        const stop = Math.min(end, Number(size))
        return [{}, stop > start ? Float64Array.of(start, stop) : new Float64Array()]
      })
    },
    takeMetadata(id, to, from, withMode) {
      const file = session.file(to)
      const steps = metadataSteps(file, session.file(from), withMode)
      session.record(id, { engine: file.engine, file, syscall: 'fchmod', steps })
    },
  }
}
