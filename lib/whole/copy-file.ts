/**
 * Copying a file: {@link copyFile}.
 *
 * ```text
 *   clone? ──refused──► parts that are not holes ──► lanes: read a block, write it ──► length, mode, times
 * ```
 */

import { Buffer } from 'node:buffer'
import { signalOf } from '../core/abort.ts'
import { connect, nextId, Operation, track } from '../core/completions.ts'
import type { DeepringError } from '../core/errors.ts'
import { optionsOf, wordOf } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import { onProgressOf, Tally } from '../core/progress.ts'
import type { RecordView } from '../core/record.ts'
import { engineOf, type Engine } from '../engine/engine.ts'
import { stateOf, type FileHandle } from '../file/file.ts'
import { finishNothing } from '../file/file-state.ts'
import type { BigIntFileStat } from '../file/stat.ts'
import { OUTPUT_KEYS, type OutputOptions } from './options.ts'
import { durabilityOf, openOutput } from './output.ts'
import { inLanes } from './parts.ts'
import { written } from './write-file.ts'

/** Options of {@link copyFile}. */
export interface CopyFileOptions extends OutputOptions {
  /**
   * `'prefer'`: where the file system can, the copy shares the space of the original until one of them is written, which takes no
   * time and no room. `'never'`: the bytes are copied. Default `'prefer'`.
   */
  clone?: 'prefer' | 'never' | undefined
}

/** What {@link copyFile} did. */
export interface CopyFileResult {
  /** The length of the file. */
  readonly bytes: number
  /** Bytes that were read and written: none of a clone, and none of holes. */
  readonly copied: number
  /** True if the copy shares the space of the original. */
  readonly cloned: boolean
}

const KEYS: ReadonlySet<string> = new Set([...OUTPUT_KEYS, 'clone'])

/** Bytes of a block: what the engine gives to a device at once. */
const BLOCK_BYTES = 4 << 20

/** Blocks that are read or written at once. */
const LANES = 8

const SLASH = 0x2f

/** One number has two names. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['EOPNOTSUPP', 'ENOTSUP'])

/** What a file system answers that cannot clone, or not these files. */
const UNCLONABLE: ReadonlySet<string> = new Set([...UNSUPPORTED, 'EXDEV', 'EINVAL', 'ETXTBSY', 'EPERM', 'EACCES'])

/**
 * Copies a file, with its holes, permissions and times. It is a clone where the file system can make one.
 *
 * @param from - The original: a string, a `file:` URL, or a `Buffer`.
 * @param to - The copy. A file that is there is overwritten.
 * @param options - `clone`, `replace`, `durable`, `direct`, `engine`, `onProgress`, `signal`.
 * @throws As `open`; `ENOSPC`, `EIO`, ...; `ERR_DEEPRING_EOF` if the original is shortened meanwhile. With `replace`, the old file is as
 * it was; without, a part can be written.
 *
 * @example
 * ```ts
 * import { copyFile } from 'deepring'
 *
 * const { bytes, cloned } = await copyFile('weights.bin', 'copy.bin', { replace: true })
 * console.log(bytes, typeof cloned) // 1000 boolean
 * ```
 */
export async function copyFile(from: FilePath, to: FilePath, options?: CopyFileOptions): Promise<CopyFileResult> {
  const given = optionsOf(options, KEYS)
  const clones = given.clone === undefined || wordOf(given.clone, 'options.clone', ['prefer', 'never']) === 'prefer'
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const engine = engineOf(given.engine)
  const { replace, durable } = durabilityOf(given)
  const { direct } = given
  const target = pathNow(to)
  const source = await engine.open(from, 'r', { direct, signal: given.signal })
  try {
    const stat = await source.stat({ bigint: true, signal: given.signal })
    const bytes = Number(stat.size)
    if (!replace && (await isSame(engine, target, stat))) return { bytes, copied: 0, cloned: false }
    const plan = { engine, replace, durable, direct, mode: Number(stat.mode & 0o777n), signal }
    const output = await openOutput(target, plan, 0)
    return await written(output, async () => {
      const { file } = output
      const cloned = clones && (await clone(source, file, bytes))
      const tally = new Tally(onProgress, bytes)
      const isFull = stat.blocks * 512n >= stat.size
      if (!cloned) await copy(source, file, bytes, isFull, signal, tally)
      await run(file, (id, number) => connect().takeMetadata(id, number, stateOf(source).number, true))
      const { bytes: copied } = tally
      // Holes are done, too.
      tally.add(bytes - copied)
      tally.finish()
      return { bytes, copied, cloned }
    })
  } finally {
    await source.close()
  }
}

/** A path that is opened later, and is to mean what it means now. */
function pathNow(path: FilePath): Uint8Array {
  const { bytes } = pathOf(path, 'to')
  if (bytes.length === 0 || bytes[0] === SLASH) return bytes
  try {
    return Buffer.concat([Buffer.from(`${process.cwd()}/`), bytes])
  } catch {
    // There is no such directory any more: the open says so.
    return bytes
  }
}

/** Whether a path leads to this file: then it must not be emptied. */
async function isSame(engine: Engine, path: FilePath, { dev, ino }: BigIntFileStat): Promise<boolean> {
  let file: FileHandle
  try {
    file = await engine.open(path, 'r', { direct: 'never' })
  } catch {
    // There is none, or the next open says why.
    return false
  }
  try {
    const other = await file.stat({ bigint: true })
    return other.dev === dev && other.ino === ino
  } finally {
    await file.close()
  }
}

async function clone(from: FileHandle, to: FileHandle, bytes: number): Promise<boolean> {
  if (bytes === 0) return false
  try {
    await run(to, (id, number) => connect().cloneRange(id, number, 0, stateOf(from).number, 0, bytes))
    return true
  } catch (error) {
    if (UNCLONABLE.has((error as DeepringError).code)) return false
    throw error
  }
}

async function copy(
  from: FileHandle,
  to: FileHandle,
  bytes: number,
  isFull: boolean,
  signal: AbortSignal | null,
  tally: Tally,
): Promise<void> {
  // In one piece, and a full disk is found now.
  if (isFull && bytes > 0) await reserve(to, bytes)
  const blocks = blocksOf(from, bytes)
  await inLanes(Math.min(LANES, Math.ceil(bytes / BLOCK_BYTES)), signal, async (stop) => {
    const memory = from.engine.allocateUnsafe(Math.min(BLOCK_BYTES, bytes))
    try {
      for (;;) {
        const next = await blocks.next()
        if (next.done === true) return
        const [position, length] = next.value
        const transfer = { position, length, signal: stop }
        await from.read(memory, { ...transfer, exact: true })
        await to.write(memory, transfer)
        tally.add(length)
      }
    } finally {
      memory[Symbol.dispose]()
    }
  })
  // A hole at the end.
  if ((await to.stat()).size < bytes) await to.truncate(bytes)
}

async function reserve(file: FileHandle, bytes: number): Promise<void> {
  try {
    await run(file, (id, number) => connect().allocateRange(id, number, 0, bytes))
  } catch (error) {
    if (!UNSUPPORTED.has((error as DeepringError).code)) throw error
  }
}

/** The blocks of what is not a hole: where each begins, and how long it is. They end at multiples of their size. */
async function* blocksOf(file: FileHandle, bytes: number): AsyncGenerator<readonly [number, number], undefined> {
  for (let from = 0; from < bytes;) {
    const numbers = await run<Float64Array>(
      file,
      (id, number) => connect().dataRanges(id, number, from, bytes),
      (_operation: Operation, { detail }: RecordView) => detail as Float64Array,
    )
    if (numbers.length === 0) return
    for (let nth = 0; nth < numbers.length; nth += 2) {
      const end = numbers[nth + 1] as number
      for (let at = numbers[nth] as number; at < end;) {
        const stop = Math.min(end, at - (at % BLOCK_BYTES) + BLOCK_BYTES)
        yield [at, stop - at]
        at = stop
      }
      from = end
    }
  }
}

/** A request on a file without options. */
function run<T = void>(
  file: FileHandle,
  stage: (id: number, number: number) => void,
  finish: (operation: Operation, record: RecordView) => unknown = finishNothing,
): Promise<T> {
  const state = stateOf(file)
  const operation = new Operation(nextId(), finish, state, null, state.path)
  stage(operation.id, state.number)
  operation.owner = file
  return track<T>(operation, null)
}
