/** The options and results of `FileHandle.checksum`. */

import type { Operation } from '../core/completions.ts'
import { outOfRange } from '../core/errors.ts'
import { bytesOf, optionsOf, positionOf, priorityOf, type Priority, type SignalOptions } from '../core/options.ts'
import type { RecordView } from '../core/record.ts'

/** Options of `FileHandle.checksum`. */
export interface ChecksumOptions extends SignalOptions {
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
}

const KEYS: ReadonlySet<string> = new Set(['position', 'length', 'chunk', 'priority', 'signal'])

/** The most checksums of one call: 64 MiB of them. */
const CHECKSUMS_MAX = 2 ** 24

/** The options, checked. The signal is left to the caller. */
export function rangeOf(options: ChecksumOptions | undefined): Range {
  const { position, length, chunk, priority, signal } = optionsOf(options, KEYS)
  const bytes = length === undefined ? -1 : bytesOf(length, 'options.length')
  return {
    position: positionOf(position === undefined ? 0 : position, 'options.position', Math.max(bytes, 0)),
    length: bytes,
    chunk: chunk === undefined ? 0 : chunkOf(chunk, bytes),
    priority: priorityOf(priority),
    signal,
  }
}

function chunkOf(value: unknown, length: number): number {
  const chunk = bytesOf(value, 'options.chunk')
  const min = Math.max(1, Math.ceil(length / CHECKSUMS_MAX))
  if (chunk < min) throw outOfRange('options.chunk', `>= ${min}, for at most ${CHECKSUMS_MAX} checksums`, value)
  return chunk
}

/** The result without chunks. */
export function finishChecksum(_operation: Operation, record: RecordView): number {
  return record.checksum
}

/** The result with chunks. */
export function finishChecksums(_operation: Operation, { detail }: RecordView): Uint32Array {
  return detail as Uint32Array
}
