/**
 * Many ranges of a file in one call: `FileHandle.readMany` and `writeMany`.
 *
 * The numbers are copied, and everything else happens on threads of the engine: checking them, sorting, reading neighbors
 * together, and counting what came of each range.
 */

import { connect, keepForever, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { fromFailure, invalidType, invalidValue, systemError, type DeepringError } from '../core/errors.ts'
import {
  booleanOf,
  bytesOf,
  checksumOf,
  optionsOf,
  priorityOf,
  SUM,
  type Priority,
  type SignalOptions,
} from '../core/options.ts'
import { signalOf } from '../core/abort.ts'
import { MANY, MANY_FLAG, MANY_NUMBERS, type Failure, type Many, type RecordView } from '../core/record.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { checkFileOpen, checkRead, checkPositioned, checkWrite, type FileState } from './file-state.ts'
import { rangesOf, refuse, type Ranges } from './ranges.ts'
import { receiptOf, type Receipt } from './receipt.ts'

/** Options of {@link FileHandle.writeMany}, and those that `readMany` shares with it. */
export interface WriteManyOptions extends SignalOptions {
  /** The class of the call. Default: that of the file, see `open`. */
  priority?: Priority | undefined
  /** `'crc32c'`: `receipt.checksums` has the CRC-32C of each range. See docs/checksums.md. Default: none. */
  checksum?: 'crc32c' | undefined
}

/** Options of {@link FileHandle.readMany}. */
export interface ReadManyOptions extends WriteManyOptions {
  /**
   * True: a range that the file ends in or before is an error, `ERR_DEEPRING_EOF`. False: `counts` has the bytes of each
   * range. Default true.
   */
  exact?: boolean | undefined
  /** True: the call goes on after a range that failed; `statuses` and `errors` have what failed. Default false. */
  partial?: boolean | undefined
  /**
   * Small ranges are read together if at most this many bytes are between them; those bytes are read and dropped. At most
   * 1 MiB counts. Default 0: they must touch. Worth it up to the device's bandwidth divided by its operations per second.
   */
  gap?: number | undefined
  /**
   * The CRC-32C that each range must have. A range with any other has failed with `ERR_DEEPRING_CHECKSUM`; the buffer has
   * its bytes. Asks for the checksums, too.
   */
  expect?: Uint32Array | undefined
}

/** How a call with many ranges was carried out. */
export interface ManyReceipt extends Receipt {
  /** Ranges of the call. */
  readonly ranges: number
  /** Bytes that were read beside those of the ranges, to read neighbors together. */
  readonly overread: number
  /** The CRC-32C of each range, if asked for. */
  readonly checksums?: Uint32Array
}

/** What a read of many ranges did. */
export interface ReadManyResult<B extends Bytes = Bytes> {
  /** Bytes read, of all ranges. */
  readonly bytesRead: number
  /** The buffer as it was passed in. */
  readonly buffer: B
  /** How it was carried out. */
  readonly receipt: ManyReceipt
  /** With `exact: false` or `partial`: the bytes of each range. */
  readonly counts?: Float64Array
  /** With `partial`, of each range: 0, or the `errno` of its error, which is negative; 1 where the file ended or the checksum is wrong. */
  readonly statuses?: Int32Array
  /** With `partial`: the errors of the ranges that failed. Each names its range: `error.index`. */
  readonly errors?: readonly DeepringError[]
}

/** What a write of many ranges did. */
export interface WriteManyResult<B extends Bytes = Bytes> {
  /** Bytes written: all of them. */
  readonly bytesWritten: number
  /** The buffer as it was passed in. */
  readonly buffer: B
  /** How it was carried out. */
  readonly receipt: ManyReceipt
}

const WRITE_KEYS: ReadonlySet<string> = new Set(['priority', 'checksum', 'signal'])
const READ_KEYS: ReadonlySet<string> = new Set([...WRITE_KEYS, 'exact', 'partial', 'gap', 'expect'])

/** The status of a range that failed without an error of the system. */
const FAILED = 1

const NO_NUMBERS = new Uint8Array(0)

const numbers = new Float64Array(MANY_NUMBERS)

/** What `finish` needs of a call. */
interface Source {
  readonly buffer: Bytes
  readonly count: number
  readonly partial: boolean
}

/** Reads many ranges of a file; `owner` is its handle. */
export function readMany<B extends Bytes>(
  state: FileState,
  owner: object,
  buffer: B,
  ranges: Ranges,
  options?: ReadManyOptions,
): Promise<ReadManyResult<B>> {
  const given = optionsOf(options, READ_KEYS)
  const exact = booleanOf(given.exact, 'options.exact', true)
  const partial = booleanOf(given.partial, 'options.partial', false)
  const gap = given.gap === undefined ? 0 : bytesOf(given.gap, 'options.gap')
  const { expect } = given
  if (expect !== undefined && !(expect instanceof Uint32Array))
    throw invalidType('options.expect', 'a Uint32Array', expect)
  const flags =
    (expect === undefined ? 0 : MANY_FLAG.expect) |
    (exact ? MANY_FLAG.exact : 0) |
    (partial ? MANY_FLAG.partial : 0) |
    (partial || !exact ? MANY_FLAG.counts : 0)
  checkFileOpen(state, 'read')
  if (!state.readable) throw systemError('EBADF', 'read', state.path, `opened with flags '${state.flags}'`)
  return stage(state, owner, buffer, ranges, flags, gap, given, finishRead)
}

/** Writes many ranges of a file; `owner` is its handle. */
export function writeMany<B extends Bytes>(
  state: FileState,
  owner: object,
  buffer: B,
  ranges: Ranges,
  options?: WriteManyOptions,
): Promise<WriteManyResult<B>> {
  const given = optionsOf(options, WRITE_KEYS)
  checkFileOpen(state, 'write')
  checkPositioned(state)
  return stage(state, owner, buffer, ranges, MANY_FLAG.write, 0, given, finishWrite)
}

function stage<T>(
  state: FileState,
  owner: object,
  buffer: Bytes,
  ranges: Ranges,
  flags: number,
  gap: number,
  { priority, checksum, expect, signal }: ReadManyOptions,
  finish: (operation: Operation, record: RecordView) => unknown,
): Promise<T> {
  const view = viewOf(buffer, undefined, undefined)
  const checked = rangesOf(ranges)
  const write = (flags & MANY_FLAG.write) !== 0
  const sums = checksumOf(checksum, undefined) === SUM.no ? 0 : MANY_FLAG.sums
  if (expect !== undefined && expect.length !== checked.count)
    throw invalidValue('options.expect.length', `There are ${checked.count} ranges.`, expect.length)
  const expected =
    expect === undefined ? NO_NUMBERS : new Uint8Array(expect.buffer, expect.byteOffset, expect.byteLength)
  const urgency = priorityOf(priority)
  const watched = signalOf(signal)
  const source: Source = { buffer, count: checked.count, partial: (flags & MANY_FLAG.partial) !== 0 }
  const operation = new Operation(nextId(), write ? 'write' : 'read', finish, source, view, state.path)
  operation.owner = owner
  numbers[MANY.id] = operation.id
  numbers[MANY.file] = state.number
  numbers[MANY.flags] = flags | sums
  numbers[MANY.priority] = urgency
  numbers[MANY.count] = checked.count
  numbers[MANY.gap] = gap
  numbers[MANY.length] = checked.length
  numbers[MANY.positions] = checked.positions.kind
  numbers[MANY.lengths] = checked.lengths.kind
  numbers[MANY.offsets] = checked.offsets.kind
  connect().many(numbers, view, checked.positions.bytes, checked.lengths.bytes, checked.offsets.bytes, expected)
  return track(operation, watched)
}

function finishRead(operation: Operation, record: RecordView): ReadManyResult {
  const many = manyOf(operation, record)
  checkRead(operation)
  const { buffer, count, partial } = operation.source as Source
  const result = { bytesRead: record.transferred, buffer, receipt: manyReceiptOf(record, many, count) }
  if (many.counts === undefined) return result
  if (!partial) return { ...result, counts: many.counts }
  const statuses = new Int32Array(count)
  for (const { index, errno } of many.failures) statuses[index] = errno === 0 ? FAILED : errno
  const errors = many.failures.map((failure) => fromFailure(failure, operation.path))
  return { ...result, counts: many.counts, statuses, errors }
}

function finishWrite(operation: Operation, record: RecordView): WriteManyResult {
  const many = manyOf(operation, record)
  checkWrite(operation)
  const { buffer, count } = operation.source as Source
  return { bytesWritten: record.transferred, buffer, receipt: manyReceiptOf(record, many, count) }
}

/** Of a call of which nothing but its numbers is to be said: most have no detail. */
const PLAIN: Many = { failures: [], overread: 0 }

/** The detail of a call that succeeded. Throws the error of one that failed. */
function manyOf(operation: Operation, { detail }: RecordView): Many {
  const many = (detail ?? PLAIN) as Many
  const { failure, failures, refused } = many
  if (failure === undefined) return many
  if (refused !== undefined) refuse(refused, operation.requested)
  if (failure.code === 'ERR_DEEPRING_LOST' && operation.view !== null) keepForever(operation.view)
  throw errorOfMany(failure, failures, operation.path)
}

function errorOfMany(failure: Failure, failures: readonly Failure[], path: string | undefined): DeepringError {
  if (failures.length === 0) return fromFailure(failure, path)
  const errors = failures.map((each) => fromFailure(each, path))
  return fromFailure(failure, path, errors)
}

function manyReceiptOf(record: RecordView, { overread, checksums }: Many, ranges: number): ManyReceipt {
  const receipt = { ...receiptOf(record), ranges, overread }
  return checksums === undefined ? receipt : { ...receipt, checksums }
}
