/** The functions of the binding for files and engines, and for the records of all requests. */

import type { EngineConfig, Native } from '../core/native.ts'
import { DIRECT, FLAG, NODE_FLAG, SCALE } from '../core/record.ts'
import { sumSteps } from './checksum.ts'
import { combine, crc32c } from './crc32c.ts'
import { Failed, failed, failure, refusal } from './failure.ts'
import {
  closeSteps,
  openedOf,
  openSteps,
  pathNow,
  statSteps,
  syncSteps,
  truncateSteps,
  type Descriptor,
} from './files.ts'
import type { Session } from './session.ts'
import type { Steps } from './steps.ts'

/** Opens a file, unless it must be direct. */
export function* openUnlessDirect(direct: number, steps: Steps<Descriptor>): Steps<Descriptor> {
  if (direct === DIRECT.require)
    throw failed(
      'ERR_DEEPRING_DIRECT',
      'open',
      'direct I/O was required and is not available (node:fs has no direct I/O)',
    )
  return yield* steps
}

/** The flags and the checksum of a record. */
export function checksumFields(checksum: number): { readonly flags: number } {
  return { flags: NODE_FLAG + FLAG.checksum + checksum * SCALE.checksum }
}

/** Requests as a whole. */
export function requestsOf(session: Session): Pick<Native, 'attach' | 'drain' | 'detail' | 'block' | 'cancel'> {
  const { delivery, running } = session
  return {
    attach: (wake) => delivery.attach(wake),
    drain: (records) => delivery.drain(records),
    detail: (id) => delivery.detail(id),
    block(ids) {
      for (const id of ids) running.get(id)?.finishNow?.()
    },
    cancel(ids, cancellation) {
      for (const id of ids) running.get(id)?.cancel()
      for (const request of session.cancellations.get(cancellation) ?? []) request.cancel()
    },
  }
}

/** @param reason - Why there is no native binding. */
export function enginesOf(
  session: Session,
  reason: string,
): Pick<
  Native,
  | 'defaultEngine'
  | 'createEngine'
  | 'closeEngine'
  | 'engineInfo'
  | 'engineStats'
  | 'engineTrim'
  | 'engineLimits'
  | 'createHandle'
  | 'freeHandle'
> {
  let defaultNumber = 0
  return {
    defaultEngine: () => (defaultNumber ||= session.createEngine({}).number),
    createEngine(config: EngineConfig) {
      if (config.backend === undefined) return session.createEngine(config).number
      const message = `${reason}; options.backend allows no other backend`
      throw new Failed(failure('ERR_DEEPRING_UNSUPPORTED', 'build', message))
    },
    closeEngine(id, number) {
      const engine = session.engine(number)
      session.engines.delete(number)
      void engine.close().then(() => session.delivery.succeed(id))
    },
    engineInfo(id, number, path) {
      const engine = session.engine(number)
      if (path === null) {
        session.delivery.succeed(id, {}, engine.info(reason, undefined))
        return
      }
      const steps = engine.pathInfo(pathNow(path), new TextDecoder().decode(path))
      session.record(id, { engine, syscall: 'stat', steps }, (found) => [{}, engine.info(reason, found)])
    },
    engineStats: (number) => session.engine(number).stats(session.memory.statsOf(number)),
    engineTrim: (number) => void session.engine(number),
    engineLimits(number) {
      const { queueDepth, blockBytes } = session.engine(number)
      return { queueDepth, blockSize: blockBytes }
    },
    createHandle(number, limits) {
      const handle = session.number()
      session.handles.set(handle, session.engine(number).handle(limits))
      return handle
    },
    freeHandle: (handle) => void session.handles.delete(handle),
  }
}

/** Open files, without transfers. */
export function filesOf(
  session: Session,
): Pick<
  Native,
  | 'open'
  | 'close'
  | 'sync'
  | 'truncate'
  | 'stat'
  | 'checksum'
  | 'fileFlags'
  | 'fileDescriptor'
  | 'shareFile'
  | 'openShared'
> {
  /** A request on a file that has no result. */
  const control = (id: number, number: number, syscall: string, make: () => Steps<void>): void => {
    const file = session.file(number)
    session.record(id, { engine: file.engine, file, syscall, steps: make() })
  }
  return {
    open(id, engineNumber, path, flags, direct, mode, syncDirectory, priority) {
      const engine = session.engine(engineNumber)
      const steps = openUnlessDirect(direct, openSteps(pathNow(path), flags, mode, syncDirectory))
      session.record(id, { engine, syscall: 'open', steps }, (descriptor) => {
        return [{}, openedOf(session.addFile(engine, descriptor, priority))]
      })
    },
    close(id, number) {
      const file = session.file(number)
      session.files.delete(number)
      session.record(id, { engine: file.engine, syscall: 'close', isCertain: true, steps: closeSteps(file) })
    },
    sync(id, number, dataOnly) {
      const file = session.file(number)
      control(id, number, dataOnly ? 'fdatasync' : 'fsync', () => syncSteps(file, dataOnly, file.inode.writesBefore()))
    },
    truncate: (id, number, size) => control(id, number, 'ftruncate', () => truncateSteps(session.file(number), size)),
    stat(id, number) {
      const file = session.file(number)
      session.record(id, { engine: file.engine, file, syscall: 'fstat', steps: statSteps(file) }, (stat) => [{}, stat])
    },
    checksum(id, number, position, length, chunk, priority) {
      const file = session.file(number)
      const steps = sumSteps(file.fd, position, length, chunk)
      session.record(id, { engine: file.engine, priority, file, syscall: 'read', steps }, (sums) =>
        chunk > 0 ? [{}, sums] : [checksumFields(sums[0] ?? 0)],
      )
    },
    fileFlags: () => NODE_FLAG,
    fileDescriptor: (number) => session.file(number).fd,
    shareFile() {
      throw refusal('A file that several threads have open', 'share')
    },
    openShared() {
      throw refusal('A file that several threads have open', 'open')
    },
  }
}

/** Checksums of memory. */
export function checksumsOf(session: Session): Pick<Native, 'crc32C' | 'crc32CLater' | 'crc32CCombine'> {
  return {
    crc32C: (view, seed) => crc32c(view, seed),
    crc32CLater(id, engine, view, seed) {
      session.engine(engine)
      session.delivery.succeed(id, checksumFields(crc32c(view, seed)))
    },
    crc32CCombine: combine,
  }
}
