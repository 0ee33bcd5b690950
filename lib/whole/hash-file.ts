/** The checksum or hash of a whole file: {@link hashFile}. */

import { Buffer } from 'node:buffer'
import type { Hash } from 'node:crypto'
import { signalOf } from '../core/abort.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { Operation } from '../core/operation.ts'
import { optionsOf } from '../core/options.ts'
import type { FilePath } from '../core/path.ts'
import { onProgressOf, reporting, Tally, type OnProgress } from '../core/progress.ts'
import type { RecordView } from '../core/record.ts'
import { engineOf } from '../engine/engine.ts'
import { stateOf, type FileHandle } from '../file/file.ts'
import { crc32c } from '../memory/checksum.ts'
import { takeHasher } from './hasher.ts'
import { WHOLE_KEYS, type WholeFileOptions } from './options.ts'
import { readUnsized } from './read-file.ts'

/** Options of {@link hashFile}. */
export type HashFileOptions = WholeFileOptions

const KEYS: ReadonlySet<string> = new Set(WHOLE_KEYS)

/** A file up to this size is hashed on this thread, in less time than it takes to wake another. */
const SMALL_BYTES = 65_536

/** Its names. The engine has this one itself, because no other is so common: no worker has to start. */
const SHA256 = /^sha-?256$/i

/** Bytes that are hashed at once. */
const SLOT_BYTES = 2 << 20

/** Pieces that are read while one is hashed. */
const SLOTS = 6

/**
 * The checksum or hash of a whole file, without keeping the thread: CRC-32C and SHA-256 by threads of the engine, others by
 * `node:crypto` in a worker.
 *
 * @param path - A string, a `file:` URL, or a `Buffer`.
 * @param algorithm - `'crc32c'`, or what `crypto.createHash` takes: `'sha256'`, `'blake2b512'`, ...
 * @param options - `direct`, `engine`, `onProgress`, `signal`.
 * @returns In hexadecimal.
 * @throws As `open` and `read`; `ERR_DEEPRING_INVALID_ARG_VALUE` for an unknown algorithm.
 *
 * @example
 * ```ts
 * import { hashFile, writeFile } from 'deepring'
 *
 * await writeFile('nine.txt', '123456789')
 * console.log(await hashFile('nine.txt', 'crc32c')) // e3069283
 * console.log((await hashFile('nine.txt', 'sha256')).slice(0, 8)) // 15e2b0d3
 * ```
 */
export async function hashFile(path: FilePath, algorithm: string, options?: HashFileOptions): Promise<string> {
  const given = optionsOf(options, KEYS)
  checkAlgorithm(algorithm)
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const file = await engineOf(given.engine).open(path, 'r', { direct: given.direct, signal: given.signal })
  try {
    const { size } = await file.stat({ signal: given.signal })
    if (size > SMALL_BYTES) return await hashLarge(file, size, algorithm, signal, onProgress)
    const bytes = await readSmall(file, size, signal)
    const hash = algorithm === 'crc32c' ? inHex(crc32c(bytes)) : createHash(algorithm).update(bytes).digest('hex')
    const tally = new Tally(onProgress, size)
    tally.add(size)
    tally.finish()
    return hash
  } finally {
    await file.close()
  }
}

/** Beside this thread: by threads of the engine, or in a worker. */
async function hashLarge(
  file: FileHandle,
  size: number,
  algorithm: string,
  signal: AbortSignal | null,
  onProgress: OnProgress | undefined,
): Promise<string> {
  if (algorithm === 'crc32c')
    return inHex(await file.checksum({ length: size, onProgress, signal: signal ?? undefined }))
  if (SHA256.test(algorithm) && connect().sha256 !== undefined) return sha256(file, size, signal, onProgress)
  const tally = new Tally(onProgress, size)
  const hash = await hashElsewhere(file, size, algorithm, signal, tally)
  tally.finish()
  return hash
}

function checkAlgorithm(algorithm: unknown): void {
  if (typeof algorithm !== 'string') throw invalidType('algorithm', 'of type string', algorithm)
  if (algorithm === 'crc32c') return
  try {
    createHash(algorithm)
  } catch (error) {
    const why = "It must be 'crc32c' or one of crypto.getHashes()."
    throw invalidValue('algorithm', why, algorithm, error)
  }
}

/** Its module is loaded here, because that takes longer than most of deepring. */
function createHash(algorithm: string): Hash {
  return process.getBuiltinModule('node:crypto').createHash(algorithm)
}

function inHex(crc: number): string {
  return crc.toString(16).padStart(8, '0')
}

async function readSmall(file: FileHandle, size: number, signal: AbortSignal | null): Promise<Uint8Array> {
  if (size === 0) return readUnsized(file.engine, file, undefined, signal)
  const { buffer } = await file.read(new Uint8Array(size), { position: 0, exact: true, signal: signal ?? undefined })
  return buffer
}

/** The SHA-256 of the first `size` bytes, by threads of the engine. */
function sha256(
  file: FileHandle,
  size: number,
  signal: AbortSignal | null,
  onProgress: OnProgress | undefined,
): Promise<string> {
  const state = stateOf(file)
  const operation = new Operation(nextId(), 'read', finishHash, state, null, state.path)
  operation.owner = file
  // An abort waits for the engine to let go of the file, as if it had memory of the caller.
  operation.extra.holds = []
  connect().sha256?.(operation.id, state.number, size)
  return reporting(
    () => operation.id,
    onProgress,
    track<string>(operation, signal),
    () => size,
    () => undefined,
  )
}

function finishHash(_operation: Operation, { detail }: RecordView): string {
  return Buffer.from(detail as Float64Array).toString('hex')
}

async function hashElsewhere(
  file: FileHandle,
  size: number,
  algorithm: string,
  signal: AbortSignal | null,
  tally: Tally,
): Promise<string> {
  const hasher = takeHasher(SLOTS * SLOT_BYTES)
  const lengthOf = (piece: number): number => Math.min(SLOT_BYTES, size - piece * SLOT_BYTES)
  const read = (piece: number): Promise<unknown> => {
    const offset = (piece % SLOTS) * SLOT_BYTES
    const reading = file.read(hasher.memory, {
      position: piece * SLOT_BYTES,
      offset,
      length: lengthOf(piece),
      exact: true,
      signal: signal ?? undefined,
    })
    // What fails is seen when it is its turn.
    reading.catch(() => {})
    return reading
  }
  const pieces = Math.ceil(size / SLOT_BYTES)
  /** Of each slot: it was hashed, and the next read into it has ended. */
  const slots: Promise<unknown>[] = Array.from({ length: Math.min(SLOTS, pieces) }, (_, piece) => read(piece))
  try {
    hasher.begin(algorithm)
    for (let piece = 0; piece < pieces; piece += 1) {
      const slot = piece % SLOTS
      await slots[slot]
      const hashed = hasher.update(slot * SLOT_BYTES, lengthOf(piece)).then(() => tally.add(lengthOf(piece)))
      const following = piece + SLOTS
      const next = following < pieces ? hashed.then(() => read(following)) : hashed
      next.catch(() => {})
      slots[slot] = next
    }
    await Promise.all(slots)
    return await hasher.end()
  } finally {
    // Its memory is read into until then.
    await Promise.allSettled(slots)
    hasher.giveBack()
  }
}
