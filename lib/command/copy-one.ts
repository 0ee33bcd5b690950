/** The copy of one file: {@link copyFileOf}, and {@link resumeFileOf}, which goes on from an earlier one. */

import { crc32cCombine, DeepringError, Engine, open, type FileHandle } from '../../index.ts'
import { forEachOf } from '../core/for-each.ts'
import {
  cloneFile,
  copyRangeSummed,
  dataRanges,
  isFull,
  reserve,
  settleLength,
  takeMetadata,
} from '../whole/copy-range.ts'
import { openOutput } from '../whole/output.ts'
import { written } from '../whole/write-file.ts'
import { CHUNK_BYTES, type Entry, type Journal } from './journal.ts'
import type { FilePlan } from './walk.ts'

/** What holds for all files. */
export interface HowToCopy {
  readonly clones: boolean
  /** Each copy is read back. */
  readonly verifies: boolean
  readonly durable: boolean
  readonly signal: AbortSignal
  /** Bytes are done: those that are copied, and those that are read back. */
  readonly onBytes: (bytes: number) => void
}

/** What was done with a file. */
export interface Copied {
  readonly from: string
  readonly to: string
  /** Its length. */
  readonly bytes: number
  /** Bytes that were read and written. */
  readonly copied: number
  /** Bytes that an earlier run has written, and that were compared. */
  readonly kept: number
  readonly cloned: boolean
  /** Whether it was read back and compared. */
  readonly verified: boolean
  /** Whether the copy is read and written past the page cache. */
  readonly direct: boolean
  /** Of its bytes; absent for a clone, which nobody has read. */
  readonly crc32c?: number | undefined
}

/** Chunks at once, and blocks of each. */
const CHUNKS = 2
const LANES = 4

/** Copies a file as a whole or not at all. */
export async function copyFileOf({ from, to }: FilePlan, how: HowToCopy): Promise<Copied> {
  const { clones, verifies, durable, signal, onBytes } = how
  await using source = await open(from, 'r', { signal })
  const stat = await source.stat({ bigint: true })
  const bytes = Number(stat.size)
  const plan = {
    engine: Engine.default,
    replace: true,
    durable,
    direct: undefined,
    mode: Number(stat.mode & 0o777n),
    signal,
  }
  const output = await openOutput(to, plan, 0)
  const { file } = output
  return await written(output, async () => {
    const common = { from, to, bytes, kept: 0, direct: file.direct }
    if (clones && (await cloneFile(source, file, bytes))) {
      onBytes(verifies ? 2 * bytes : bytes)
      await takeMetadata(source, file)
      return { ...common, copied: 0, cloned: true, verified: false }
    }
    if (isFull(stat)) await reserve(file, bytes)
    let copied = 0
    const onBlock = (length: number): void => {
      copied += length
      onBytes(length)
    }
    const sums = await inChunks(bytes, (start, end) =>
      copyRangeSummed(source, file, { start, end, lanes: LANES, signal, onBlock }),
    )
    // Holes are done, too.
    onBytes(bytes - copied)
    await settleLength(file, bytes)
    if (verifies) await compare(file, to, sums, how)
    await takeMetadata(source, file)
    return { ...common, copied, cloned: false, verified: verifies, crc32c: combined(sums, bytes) }
  })
}

/** Goes on with the copy of a file in its place, from what its journal says and its bytes confirm. */
export async function resumeFileOf({ from, to, name }: FilePlan, how: HowToCopy, journal: Journal): Promise<Copied> {
  const { verifies, durable, signal, onBytes } = how
  await using source = await open(from, 'r', { signal })
  const stat = await source.stat({ bigint: true })
  const bytes = Number(stat.size)
  const entry = await journal.entryOf(name, stat)
  await using file = await openPartial(to, entry)
  let [copied, kept] = [0, 0]
  // Whatever is behind the end belongs to an earlier file.
  if ((await file.stat()).size !== bytes) await file.truncate(bytes)
  const sums = await inChunks(bytes, async (start, end) => {
    const chunk = start / CHUNK_BYTES
    const known = entry.chunks.get(chunk)
    if (known !== undefined && (await file.checksum({ position: start, length: end - start, signal })) === known) {
      kept += end - start
      onBytes(end - start)
      return known
    }
    await clearHoles(source, file, start, end)
    let moved = 0
    const onBlock = (length: number): void => {
      moved += length
      onBytes(length)
    }
    const crc = await copyRangeSummed(source, file, { start, end, lanes: LANES, signal, onBlock })
    copied += moved
    onBytes(end - start - moved)
    await journal.add(entry, chunk, crc)
    return crc
  })
  if (verifies) await compare(file, to, sums, how)
  await takeMetadata(source, file)
  if (durable) await file.sync()
  return {
    from,
    to,
    bytes,
    copied,
    kept,
    cloned: false,
    verified: verifies,
    direct: file.direct,
    crc32c: combined(sums, bytes),
  }
}

/** The target of a copy that is resumed, or an empty one. */
async function openPartial(path: string, { chunks }: Entry): Promise<FileHandle> {
  if (chunks.size > 0) {
    try {
      return await open(path, 'r+')
    } catch (error) {
      if (!(error instanceof DeepringError) || error.code !== 'ENOENT') throw error
    }
  }
  return open(path, 'w+', { mode: 0o600 })
}

/** Where the original has holes, the target of an interrupted copy can have bytes. */
async function clearHoles(source: FileHandle, file: FileHandle, start: number, end: number): Promise<void> {
  let at = start
  const clear = async (stop: number): Promise<void> => {
    for await (const [first, last] of dataRanges(file, at, stop))
      await file.write(new Uint8Array(last - first), { position: first })
  }
  for await (const [first, last] of dataRanges(source, start, end)) {
    await clear(first)
    at = last
  }
  await clear(end)
}

/** Runs something on all chunks, two at once. Returns what it has returned, in the order of the chunks. */
async function inChunks(bytes: number, copy: (start: number, end: number) => Promise<number>): Promise<number[]> {
  const sums: number[] = []
  const chunks = Array.from({ length: Math.ceil(bytes / CHUNK_BYTES) }, (_, chunk) => chunk)
  await forEachOf(chunks, CHUNKS, async (chunk) => {
    const start = chunk * CHUNK_BYTES
    sums[chunk] = await copy(start, Math.min(start + CHUNK_BYTES, bytes))
  })
  return sums
}

/** Reads the copy back. */
async function compare(
  file: FileHandle,
  path: string,
  sums: readonly number[],
  { signal, onBytes }: HowToCopy,
): Promise<void> {
  const { size } = await file.stat()
  if (size === 0) return
  let seen = 0
  const found = await file.checksum({
    length: size,
    chunk: CHUNK_BYTES,
    signal,
    onProgress: ({ bytes }) => {
      onBytes(bytes - seen)
      seen = bytes
    },
  })
  const wrong = found.findIndex((crc, chunk) => crc !== sums[chunk])
  if (wrong !== -1)
    throw new DeepringError(`the copy '${path}' does not have the bytes that were written to it`, {
      code: 'ERR_DEEPRING_CHECKSUM',
      path,
      position: wrong * CHUNK_BYTES,
      expected: sums[wrong],
      actual: found[wrong],
    })
}

/** The CRC-32C of all chunks. */
function combined(sums: readonly number[], bytes: number): number {
  let crc = 0
  for (const [chunk, sum] of sums.entries())
    crc = crc32cCombine(crc, sum, Math.min(CHUNK_BYTES, bytes - chunk * CHUNK_BYTES))
  return crc
}
