/** Writing a whole file, and appending to one: {@link writeFile}, {@link appendFile}. */

import { Buffer } from 'node:buffer'
import { signalOf, throwIfAborted } from '../core/abort.ts'
import { invalidType } from '../core/errors.ts'
import { booleanOf, MODE, modeOf, optionsOf, type SignalOptions } from '../core/options.ts'
import { inParts } from '../core/parts.ts'
import type { FilePath } from '../core/path.ts'
import { onProgressOf, Tally, type OnProgress, type ProgressOptions } from '../core/progress.ts'
import { engineOf, type Engine } from '../engine/engine.ts'
import { stateOf, type FileHandle } from '../file/file.ts'
import { BlockWriter } from '../file/block-writer.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { OUTPUT_KEYS, type OutputOptions } from './options.ts'
import { durabilityOf, openOutput, type Output } from './output.ts'

/** Bytes or text, at once or piece by piece. Text is written as UTF-8. */
export type FileData = Bytes | string | Iterable<Bytes | string> | AsyncIterable<Bytes | string>

/** Options of {@link writeFile}. */
export interface WriteFileOptions extends OutputOptions {
  /** Permissions of a file that is created, before the umask: a number, or octal digits. Default `0o666`. */
  mode?: number | string | undefined
}

/** Options of {@link appendFile}. */
export interface AppendFileOptions extends ProgressOptions, SignalOptions {
  /** Permissions of a file that is created, before the umask: a number, or octal digits. Default `0o666`. */
  mode?: number | string | undefined
  /** True: the promise settles when the bytes and the name survive a power cut. Default false. */
  durable?: boolean | undefined
  /** The engine. Default: that of the process. */
  engine?: Engine | undefined
}

const WRITE_KEYS: ReadonlySet<string> = new Set([...OUTPUT_KEYS, 'mode'])
const APPEND_KEYS: ReadonlySet<string> = new Set(['mode', 'durable', 'engine', 'onProgress', 'signal'])

/**
 * Writes a whole file. With `replace`, it takes the place of the old one when it is complete and safe, or not at all.
 *
 * Memory belongs to the engine until the promise settles. Pieces of an iterable are gathered to blocks, and each is the
 * iterable's again when it is asked for the next.
 *
 * @param path - A string, a `file:` URL, or a `Buffer`.
 * @param data - A view, a tensor, a string, or pieces of them as they come.
 * @param options - `replace`, `durable`, `mode`, `direct`, `engine`, `onProgress`, `signal`.
 * @throws `ENOSPC`, `EDQUOT`, `EIO`, ... With `replace`, the old file is as it was; without, a part can be written.
 * `ERR_DEEPRING_UNCERTAIN`: the new file is in place, but flushing its directory failed. What the iterable throws.
 *
 * @example
 * ```ts
 * import { readFile, writeFile } from 'deepring'
 *
 * await writeFile('state.json', JSON.stringify({ step: 7 }), { replace: true })
 * console.log(Buffer.from(await readFile('state.json')).toString()) // {"step":7}
 * ```
 */
export async function writeFile(path: FilePath, data: FileData, options?: WriteFileOptions): Promise<void> {
  const given = optionsOf(options, WRITE_KEYS)
  const source = sourceOf(data)
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const plan = {
    engine: engineOf(given.engine),
    ...durabilityOf(given),
    direct: given.direct,
    mode: modeOf(given.mode) ?? MODE,
    signal,
  }
  const output = await openOutput(path, plan, source instanceof Uint8Array ? source.byteLength : 0)
  await written(output, () =>
    source instanceof Uint8Array
      ? writeAll(output.file, source, signal, onProgress)
      : writePieces(output.file, source, signal, onProgress),
  )
}

/** Writes, and finishes the output, or abandons it. */
export async function written<T>(output: Output, write: () => Promise<T>): Promise<T> {
  let result: T
  try {
    result = await write()
  } catch (error) {
    // The caller gets the error that made this necessary.
    await output.abandon().catch(() => {})
    throw error
  }
  await output.finish()
  return result
}

/**
 * Appends to a file, which is created if it is missing. Several that append to one file, in any process, do not overwrite each
 * other.
 *
 * @param path - A string, a `file:` URL, or a `Buffer`.
 * @param data - As of {@link writeFile}. What comes in pieces is appended in blocks.
 * @param options - `mode`, `durable`, `engine`, `onProgress`, `signal`.
 * @throws As `open` and `FileHandle.append`.
 *
 * @example
 * ```ts
 * import { appendFile, readFile } from 'deepring'
 *
 * await appendFile('events.log', 'first\n')
 * await appendFile('events.log', 'second\n', { durable: true })
 * console.log((await readFile('events.log')).byteLength) // 13
 * ```
 */
export async function appendFile(path: FilePath, data: FileData, options?: AppendFileOptions): Promise<void> {
  const given = optionsOf(options, APPEND_KEYS)
  const source = sourceOf(data)
  const durable = booleanOf(given.durable, 'options.durable', false)
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const engine = engineOf(given.engine)
  const opening = { mode: modeOf(given.mode) ?? MODE, syncDirectory: durable, signal: given.signal }
  const file = await engine.open(path, 'a', opening)
  try {
    if (!(source instanceof Uint8Array)) await writePieces(file, source, signal, onProgress)
    else if (onProgress === undefined) await file.append(source, { signal: given.signal })
    else await appendParts(file, source, signal, onProgress)
    if (durable) await file.sync()
  } finally {
    await file.close()
  }
}

type Pieces = Iterable<unknown> | AsyncIterable<unknown>

/** Bytes, or what yields them. */
function sourceOf(data: unknown): Uint8Array | Pieces {
  if (typeof data === 'string') return Buffer.from(data)
  const { [Symbol.asyncIterator]: asyncIterator, [Symbol.iterator]: iterator } = (data ?? {}) as Partial<
    AsyncIterable<unknown> & Iterable<unknown>
  >
  if (!ArrayBuffer.isView(data) && (typeof asyncIterator === 'function' || typeof iterator === 'function'))
    return data as Pieces
  if (typeof data !== 'object' || data === null)
    throw invalidType('data', 'a string, a view, a tensor, or an iterable of them', data)
  return viewOf(data, undefined, undefined)
}

async function writeAll(
  file: FileHandle,
  bytes: Uint8Array,
  signal: AbortSignal | null,
  onProgress: OnProgress | undefined,
): Promise<void> {
  if (onProgress === undefined) {
    await file.write(bytes, { position: 0, signal: signal ?? undefined })
    return
  }
  const tally = new Tally(onProgress, bytes.byteLength)
  await inParts(bytes.byteLength, signal, tally, (from, length, stop) =>
    file.write(bytes, { position: from, offset: from, length, signal: stop }),
  )
  tally.finish()
}

/** One after the other, so that they do not change places. */
async function appendParts(
  file: FileHandle,
  bytes: Uint8Array,
  signal: AbortSignal | null,
  onProgress: OnProgress,
): Promise<void> {
  const tally = new Tally(onProgress, bytes.byteLength)
  const append = (offset: number, length: number, stop: AbortSignal): Promise<unknown> =>
    file.append(bytes, { offset, length, signal: stop })
  await inParts(bytes.byteLength, signal, tally, append, { atOnce: 1 })
  tally.finish()
}

async function writePieces(
  file: FileHandle,
  pieces: Pieces,
  signal: AbortSignal | null,
  onProgress: OnProgress | undefined,
): Promise<void> {
  const writer = new BlockWriter(stateOf(file), file, 0, signal)
  // How much is to come is unknown.
  const tally = new Tally(onProgress, Infinity)
  try {
    for await (const piece of pieces) {
      throwIfAborted(signal)
      const bytes = typeof piece === 'string' ? Buffer.from(piece) : viewOf(piece, undefined, undefined)
      await writer.write(bytes)
      tally.add(bytes.byteLength)
    }
    await writer.end()
  } finally {
    await writer.stop()
  }
  tally.finish()
}
