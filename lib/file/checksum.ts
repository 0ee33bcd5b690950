/** Checksums of a range of a file: `FileHandle.checksum`. */

import { signalOf } from '../core/abort.ts'
import { connect } from '../core/completions.ts'
import type { Operation } from '../core/operation.ts'
import { outOfRange } from '../core/errors.ts'
import { bytesOf, optionsOf, positionOf, priorityOf, type Priority, type SignalOptions } from '../core/options.ts'
import { inParts, PART_BYTES } from '../core/parts.ts'
import { onProgressOf, Tally, type OnProgress, type ProgressOptions } from '../core/progress.ts'
import type { RecordView } from '../core/record.ts'
import { crc32cCombine } from '../memory/checksum.ts'
import { control } from './control.ts'
import { checkReadable, type FileState } from './file-state.ts'
import { sizeOf } from './reader.ts'

/** Options of `FileHandle.checksum`. */
export interface ChecksumOptions extends ProgressOptions, SignalOptions {
  /** Where the range begins, in bytes. Default 0. */
  position?: number | bigint | undefined
  /** Its length in bytes. Default: up to the end of the file, as it is at the call. */
  length?: number | bigint | undefined
  /** One checksum for this number of bytes each, the last for what is left. Default: one of all. */
  chunk?: number | bigint | undefined
  /** The class of the reads. Default: that of the file, see `open`. */
  priority?: Priority | undefined
}

/** What to sum, as numbers for the binding. */
interface Range {
  readonly position: number
  /** -1: up to the end of the file. */
  readonly length: number
  /** 0: one checksum of all. */
  readonly chunk: number
  readonly priority: number
  readonly signal: AbortSignal | undefined
  readonly onProgress: OnProgress | undefined
}

const KEYS: ReadonlySet<string> = new Set(['position', 'length', 'chunk', 'priority', 'onProgress', 'signal'])

/** The most checksums of one call: 64 MiB of them. */
const CHECKSUMS_MAX = 2 ** 24

/** The options, checked, but for the signal. */
function rangeOf(options: ChecksumOptions | undefined): Range {
  const { position, length, chunk, priority, onProgress, signal } = optionsOf(options, KEYS)
  const bytes = length === undefined ? -1 : bytesOf(length, 'options.length')
  return {
    position: positionOf(position === undefined ? 0 : position, 'options.position', Math.max(bytes, 0)),
    length: bytes,
    chunk: chunk === undefined ? 0 : chunkOf(chunk, bytes),
    priority: priorityOf(priority),
    signal,
    onProgress: onProgressOf(onProgress),
  }
}

function chunkOf(value: unknown, length: number): number {
  const chunk = bytesOf(value, 'options.chunk')
  const min = Math.max(1, Math.ceil(length / CHECKSUMS_MAX))
  if (chunk < min) throw outOfRange('options.chunk', `>= ${min}, for at most ${CHECKSUMS_MAX} checksums`, value)
  return chunk
}

/** See `FileHandle.checksum`. */
export function checksum(state: FileState, owner: object, options?: ChecksumOptions): Promise<number | Uint32Array> {
  const range = rangeOf(options)
  checkReadable(state)
  const { chunk, priority, signal } = range
  const sum = (position: number, length: number, stop: AbortSignal | undefined): Promise<number | Uint32Array> => {
    const stage = (id: number, file: number): void => connect().checksum(id, file, position, length, chunk, priority)
    return control(state, owner, 'read', { signal: stop }, stage, chunk === 0 ? finishChecksum : finishChecksums)
  }
  if (range.onProgress === undefined) return sum(range.position, range.length, signal)
  return sumWhole(state, owner, range, sum)
}

/** Finds out how long the range is, and sums it in parts. */
async function sumWhole(state: FileState, owner: object, range: Range, sum: Sum): Promise<number | Uint32Array> {
  if (range.length >= 0) return sumInParts(range, sum)
  const size = await sizeOf(state, owner, signalOf(range.signal))
  return sumInParts({ ...range, length: Math.max(0, size - range.position) }, sum)
}

type Sum = (position: number, length: number, signal: AbortSignal) => Promise<number | Uint32Array>

/** Parts of a checksum at once: the engine has up to 64 MiB for each. */
const SUMS_MAX = 3

interface Part {
  readonly from: number
  readonly length: number
  readonly sums: number | Uint32Array
}

/** Sums a range in parts, and reports how far it has come. Parts are whole chunks. */
async function sumInParts(
  { position, length, chunk, signal, onProgress }: Range,
  sum: Sum,
): Promise<number | Uint32Array> {
  const parts: Part[] = []
  const tally = new Tally(onProgress, length)
  const work = async (from: number, bytes: number, stop: AbortSignal): Promise<void> => {
    parts.push({ from, length: bytes, sums: await sum(position + from, bytes, stop) })
  }
  const partBytes = chunk === 0 ? PART_BYTES : chunk * Math.ceil(PART_BYTES / chunk)
  await inParts(length, signal ?? null, tally, work, { atOnce: SUMS_MAX, partBytes })
  tally.finish()
  parts.sort((a, b) => a.from - b.from)
  if (chunk === 0) return parts.reduce((crc, part) => crc32cCombine(crc, part.sums as number, part.length), 0)
  const sums = new Uint32Array(Math.ceil(length / chunk))
  for (const part of parts) sums.set(part.sums as Uint32Array, part.from / chunk)
  return sums
}

/** The result without chunks. */
function finishChecksum(_operation: Operation, record: RecordView): number {
  return record.checksum
}

/** The result with chunks. */
function finishChecksums(_operation: Operation, { detail }: RecordView): Uint32Array {
  return detail as Uint32Array
}
