/**
 * Copying a file: {@link copyFile}.
 *
 * ```text
 *   clone? ──refused──► room ──► the bytes ──► length, mode, times
 * ```
 */

import { Buffer } from 'node:buffer'
import { signalOf } from '../core/abort.ts'
import { optionsOf, wordOf } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import { onProgressOf, Tally } from '../core/progress.ts'
import { engineOf, type Engine } from '../engine/engine.ts'
import type { FileHandle } from '../file/file.ts'
import type { BigIntFileStat } from '../file/stat.ts'
import { cloneFile, copyRange, isFull, reserve, settleLength, takeMetadata } from './copy-range.ts'
import { OUTPUT_KEYS, type OutputOptions } from './options.ts'
import { durabilityOf, openOutput } from './output.ts'
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

/** Blocks that are read or written at once. */
const LANES = 8

const SLASH = 0x2f

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
      const cloned = clones && (await cloneFile(source, file, bytes))
      const tally = new Tally(onProgress, bytes)
      if (!cloned) {
        if (isFull(stat)) await reserve(file, bytes)
        await copyRange(source, file, {
          start: 0,
          end: bytes,
          lanes: LANES,
          signal,
          onBlock: (length) => tally.add(length),
        })
        await settleLength(file, bytes)
      }
      await takeMetadata(source, file)
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
