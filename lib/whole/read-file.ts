/** Reading a whole file: {@link readFile}. */

import { throwIfAborted, signalOf } from '../core/abort.ts'
import { DeepringError } from '../core/errors.ts'
import { optionsOf } from '../core/options.ts'
import { inParts } from '../core/parts.ts'
import type { FilePath } from '../core/path.ts'
import { onProgressOf, Tally, type OnProgress } from '../core/progress.ts'
import { engineOf, type Engine } from '../engine/engine.ts'
import type { FileHandle } from '../file/file.ts'
import { checkViewable, type EngineBuffer } from '../memory/buffer.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { WHOLE_KEYS, type WholeFileOptions } from './options.ts'

/** Options of {@link readFile}. */
export interface ReadFileOptions extends WholeFileOptions {
  /** Memory that is large enough: then the result is a view of its first bytes. Default: new memory of the engine. */
  into?: Bytes | undefined
}

const KEYS: ReadonlySet<string> = new Set([...WHOLE_KEYS, 'into'])

/** Bytes that are tried of a file whose length is not known, as of those in /proc. */
const UNSIZED_BYTES = 65_536

/**
 * Reads a whole file, of any length that memory has, into memory of the engine. Nothing is zeroed before.
 *
 * @param path - A string, a `file:` URL, or a `Buffer`.
 * @param options - `into`, `direct`, `engine`, `onProgress`, `signal`.
 * @returns The bytes. Dispose them, or leave them to the garbage collector. With `into`, a view of its first bytes, as many as
 * the file has.
 * @throws As `open` and as `read` with `exact`; `ENOMEM`; `ERR_DEEPRING_SIZE_MISMATCH` if `into` is too small, before anything is
 * read.
 *
 * @example
 * ```ts
 * import { readFile } from 'deepring'
 *
 * const weights = await readFile('weights.bin')
 * console.log(weights.byteLength) // 1000
 * const same = await readFile('weights.bin', { into: new Uint8Array(4096) })
 * console.log(same.byteLength) // 1000
 * ```
 */
export async function readFile(
  path: FilePath,
  options: ReadFileOptions & { into: Bytes },
): Promise<Uint8Array<ArrayBufferLike>>
export async function readFile(path: FilePath, options?: ReadFileOptions & { into?: undefined }): Promise<EngineBuffer>
export async function readFile(path: FilePath, options?: ReadFileOptions): Promise<Uint8Array<ArrayBufferLike>>
export async function readFile(path: FilePath, options?: ReadFileOptions): Promise<Uint8Array<ArrayBufferLike>> {
  const given = optionsOf(options, KEYS)
  const into = given.into === undefined ? undefined : viewOf(given.into, undefined, undefined)
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const engine = engineOf(given.engine)
  const file = await engine.open(path, 'r', { direct: given.direct, signal: given.signal })
  try {
    const { size } = await file.stat({ signal: given.signal })
    const whole = size > 0 ? await readSized(engine, file, size, into, signal, onProgress) : undefined
    return whole ?? (await readUnsized(engine, file, into, signal))
  } finally {
    await file.close()
  }
}

async function readSized(
  engine: Engine,
  file: FileHandle,
  size: number,
  into: Uint8Array | undefined,
  signal: AbortSignal | null,
  onProgress: OnProgress | undefined,
): Promise<Uint8Array> {
  if (into !== undefined && into.byteLength < size) throw tooSmall(file, size, into)
  if (into === undefined) checkViewable(size)
  const own = into === undefined ? engine.allocateUnsafe(size) : undefined
  const memory = own ?? (into as Uint8Array).subarray(0, size)
  try {
    if (onProgress === undefined) {
      await file.read(memory, { position: 0, exact: true, signal: signal ?? undefined })
      return memory
    }
    const tally = new Tally(onProgress, size)
    await inParts(size, signal, tally, (from, length, stop) =>
      file.read(memory, { position: from, offset: from, length, exact: true, signal: stop }),
    )
    tally.finish()
    return memory
  } catch (error) {
    own?.[Symbol.dispose]()
    throw error
  }
}

/** Reads a file whose length is not known: one that says it is empty can have bytes all the same. */
export async function readUnsized(
  engine: Engine,
  file: FileHandle,
  into: Uint8Array | undefined,
  signal: AbortSignal | null,
): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let size = 0
  for (;;) {
    const part = new Uint8Array(UNSIZED_BYTES)
    const { bytesRead } = await file.read(part, { position: size, signal: signal ?? undefined })
    if (bytesRead === 0) break
    parts.push(part.subarray(0, bytesRead))
    size += bytesRead
  }
  throwIfAborted(signal)
  if (into !== undefined && into.byteLength < size) throw tooSmall(file, size, into)
  const memory = into === undefined ? engine.allocateUnsafe(size) : into.subarray(0, size)
  let at = 0
  for (const part of parts) {
    memory.set(part, at)
    at += part.byteLength
  }
  return memory
}

function tooSmall({ path }: FileHandle, size: number, { byteLength }: Uint8Array): DeepringError {
  return new DeepringError(`The file has ${size} bytes, and the memory ${byteLength}, read '${path}'`, {
    code: 'ERR_DEEPRING_SIZE_MISMATCH',
    syscall: 'read',
    path,
    requested: size,
  })
}
