/**
 * Calls with many ranges. Neighbors in the file are read, or written, in one call of the system.
 */

import { Buffer } from 'node:buffer'
import type { Native } from '../core/native.ts'
import { MANY, MANY_FLAG, NUMBERS, PRIORITY, type Failure, type Many, type Refused } from '../core/record.ts'
import { crc32c } from './crc32c.ts'
import { errnoOf, failure, failureOf } from './failure.ts'
import type { NodeFile } from './files.ts'
import type { Session } from './session.ts'
import { call, CANCELED, wait, type Steps } from './steps.ts'
import type { Moved } from './transfer.ts'
import { fieldsOf } from './transfers.ts'

/** Bytes of a run of neighbors: larger ranges are their own. */
const RUN_BYTES = 1 << 20

/** Failures that are kept of a call that ends with the first. */
const FAILURES_MAX = 16

/** One range of a call. */
export interface Range {
  readonly index: number
  readonly position: number
  readonly length: number
  readonly offset: number
}

/** Ranges that lie side by side in the file, in its order. */
interface Run {
  readonly position: number
  end: number
  readonly ranges: Range[]
}

/** What a call is to do, and what became of it. */
export class Work {
  readonly view: Uint8Array
  readonly write: boolean
  readonly flags: number
  readonly expected: Uint32Array | undefined
  readonly counts: Float64Array
  readonly sums: Uint32Array | undefined
  readonly failures: Failure[] = []
  readonly moved: Moved = { bytes: 0, blocks: 0, resumed: 0, checksum: undefined }
  overread = 0
  readonly #size: number

  constructor(count: number, flags: number, view: Uint8Array, expected: Uint8Array) {
    this.view = view
    this.#size = view.byteLength
    this.flags = flags
    this.write = this.has(MANY_FLAG.write)
    this.counts = new Float64Array(count)
    this.expected = this.has(MANY_FLAG.expect) ? new Uint32Array(copied(expected)) : undefined
    this.sums = this.has(MANY_FLAG.sums) || this.expected !== undefined ? new Uint32Array(count) : undefined
  }

  has(flag: number): boolean {
    return (this.flags & flag) !== 0
  }

  get isDetached(): boolean {
    return this.view.byteLength !== this.#size
  }

  get syscall(): 'read' | 'write' {
    return this.write ? 'write' : 'read'
  }

  /** A range has failed. Returns whether the call has. */
  fail(range: Range, failed: Failure): boolean {
    const transferred = this.counts[range.index] ?? 0
    const { index, position, length: requested } = range
    this.failures.push({ ...failed, index, position, requested, transferred })
    return !this.has(MANY_FLAG.partial)
  }

  /** Bytes of a range have come. Returns whether the call has failed with it. */
  arrived(range: Range, bytes: number): boolean {
    const { index, length, offset } = range
    this.counts[index] = bytes
    this.moved.bytes += bytes
    const sum = this.sums === undefined ? 0 : crc32c(this.view.subarray(offset, offset + bytes))
    if (this.sums !== undefined) this.sums[index] = sum
    if (bytes < length && this.has(MANY_FLAG.exact)) {
      const message = 'end of file before the read was complete'
      return this.fail(range, failure('ERR_DEEPRING_EOF', 'read', message))
    }
    const expected = this.expected?.[index]
    if (expected === undefined || expected === sum) return false
    const message = `the checksum of the bytes is 0x${sum.toString(16).padStart(8, '0')}, not 0x${expected.toString(16).padStart(8, '0')}`
    return this.fail(range, failure('ERR_DEEPRING_CHECKSUM', 'read', message, { expected, actual: sum }))
  }

  /** The detail of its record. */
  get many(): Many {
    const failures = this.failures.toSorted((a, b) => a.index - b.index)
    const [first] = failures
    const isFailed = first !== undefined && !this.has(MANY_FLAG.partial)
    return {
      ...(isFailed ? { failure: first } : {}),
      failures: isFailed ? failures.slice(0, FAILURES_MAX) : failures,
      ...(this.has(MANY_FLAG.counts) && !isFailed ? { counts: this.counts } : {}),
      ...(this.sums === undefined ? {} : { checksums: this.sums }),
      overread: this.overread,
    }
  }
}

/** The bytes of a list in memory of their own: the caller can use its list again. */
function copied(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer
}

/** A list as it crosses. */
function listOf(kind: number, bytes: Uint8Array): Float64Array | BigUint64Array | Uint32Array | undefined {
  if (kind === NUMBERS.float64) return new Float64Array(copied(bytes))
  if (kind === NUMBERS.uint64) return new BigUint64Array(copied(bytes))
  if (kind === NUMBERS.uint32) return new Uint32Array(copied(bytes))
  return undefined
}

/** A number of bytes, if it is one. */
function safe(given: number | bigint | undefined): number {
  const number = Number(given)
  return Number.isSafeInteger(number) && number >= 0 && BigInt(number) === BigInt(given ?? 0) ? number : Number.NaN
}

/** The ranges of a call; or the first that is not one. */
function rangesOf(
  numbers: Float64Array,
  size: number,
  lists: readonly [positions: Uint8Array, lengths: Uint8Array, offsets: Uint8Array],
): Range[] | Refused {
  const number = (field: number): number => numbers[field] as number
  const positions = listOf(number(MANY.positions), lists[0])
  const lengths = listOf(number(MANY.lengths), lists[1])
  const offsets = listOf(number(MANY.offsets), lists[2])
  const ranges: Range[] = []
  let packed = 0
  for (let index = 0; index < number(MANY.count); index += 1) {
    const given = {
      position: positions?.[index] ?? 0,
      length: lengths === undefined ? number(MANY.length) : (lengths[index] ?? 0),
      offset: offsets === undefined ? packed : (offsets[index] ?? 0),
    }
    const [position, length, offset] = [given.position, given.length, given.offset].map(wholeOf) as [
      number,
      number,
      number,
    ]
    // Not a number fails both.
    if (!(offset + length <= size && position + length <= Number.MAX_SAFE_INTEGER)) return { index, ...given }
    packed += length
    ranges.push({ index, position, length, offset })
  }
  return ranges
}

function wholeOf(given: number | bigint): number {
  return typeof given === 'number' && !Number.isInteger(given) ? Number.NaN : safe(given)
}

/** Two ranges that are read into the same memory, or written to the same bytes. */
function overlapOf(ranges: readonly Range[], write: boolean): readonly [Range, Range] | undefined {
  const startOf = ({ position, offset }: Range): number => (write ? position : offset)
  const sorted = ranges
    .filter(({ length }) => length > 0)
    .toSorted((a, b) => startOf(a) - startOf(b) || a.index - b.index)
  for (let nth = 1; nth < sorted.length; nth += 1) {
    const [one, two] = [sorted[nth - 1], sorted[nth]] as [Range, Range]
    if (startOf(two) < startOf(one) + one.length) return one.index < two.index ? [one, two] : [two, one]
  }
  return undefined
}

/** Puts neighbors together. */
export function runsOf(ranges: readonly Range[], gap: number): Run[] {
  const runs: Run[] = []
  for (const range of ranges.toSorted((a, b) => a.position - b.position)) {
    const { position, length } = range
    if (length === 0) continue
    const last = runs.at(-1)
    const end = position + length
    if (last !== undefined && position <= last.end + gap && Math.max(end, last.end) - last.position <= RUN_BYTES) {
      last.ranges.push(range)
      last.end = Math.max(last.end, end)
    } else runs.push({ position, end, ranges: [range] })
  }
  return runs
}

export function* manySteps(file: NodeFile, work: Work, runs: readonly Run[], blockBytes: number): Steps<Work> {
  const scratch = Buffer.allocUnsafe(runs.some(({ ranges }) => ranges.length > 1) ? RUN_BYTES : 0)
  const { alone } = file.inode
  const epoch = work.write ? file.inode.accept() : undefined
  try {
    if (work.write && alone !== undefined) yield* wait(alone)
    for (const run of runs) if (yield* runSteps(file.fd, work, run, scratch, blockBytes)) break
    return work
  } finally {
    if (epoch !== undefined) file.inode.settle(epoch)
  }
}

/** Reads or writes a run. Returns whether the call has failed with it. */
function* runSteps(fd: number, work: Work, run: Run, scratch: Buffer, blockBytes: number): Steps<boolean> {
  const { view, write } = work
  const [only] = run.ranges as [Range]
  const isOne = run.ranges.length === 1
  const length = run.end - run.position
  const memory = isOne ? view.subarray(only.offset, only.offset + length) : scratch.subarray(0, length)
  if (write && !isOne)
    for (const { position, offset, length: bytes } of run.ranges)
      memory.set(view.subarray(offset, offset + bytes), position - run.position)
  let done = 0
  let thrown: Failure | undefined
  while (done < length && thrown === undefined) {
    if (work.isDetached) thrown = failure('ERR_DEEPRING_INVALID', work.syscall, 'its memory was detached')
    else
      try {
        const part = Math.min(blockBytes, length - done)
        work.moved.blocks += 1
        const bytes = yield* call<number>(work.syscall, fd, memory, done, part, run.position + done)
        if (bytes === 0 && write) thrown = failure('', 'write', 'no byte was written', { errno: errnoOf('EIO') })
        if (bytes === 0) break
        done += bytes
      } catch (error) {
        if (error === CANCELED) throw error
        thrown = failureOf(error, work.syscall)
      }
  }
  if (!write) work.overread += done - covered(run, done)
  // All of them, because the first one that failed is that of the lowest index.
  let isOver = false
  for (const range of run.ranges) {
    const at = range.position - run.position
    const bytes = Math.max(0, Math.min(range.length, done - at))
    if (!write && !isOne && !work.isDetached) view.set(memory.subarray(at, at + bytes), range.offset)
    if (thrown !== undefined && bytes < range.length) {
      work.counts[range.index] = bytes
      work.moved.bytes += bytes
      isOver = work.fail(range, thrown) || isOver
    } else isOver = work.arrived(range, bytes) || isOver
  }
  return isOver
}

/** How many of the first `done` bytes of a run some range has. */
function covered({ position, ranges }: Run, done: number): number {
  let bytes = 0
  let end = position
  for (const range of ranges) {
    const stop = Math.min(range.position + range.length, position + done)
    if (stop > end) bytes += stop - Math.max(end, range.position)
    end = Math.max(end, stop)
  }
  return bytes
}

/** The function of the binding for many ranges. */
export function manyOf(session: Session): Pick<Native, 'many'> {
  return {
    many(numbers, view, positions, lengths, offsets, expected) {
      const number = (field: number): number => numbers[field] as number
      const [id, flags, gap] = [number(MANY.id), number(MANY.flags), number(MANY.gap)]
      const file = session.file(number(MANY.file))
      const { engine } = file
      const work = new Work(number(MANY.count), flags, view, expected)
      const refuse = (failed: Failure, refused?: Refused): void => {
        const detail: Many = {
          failure: failed,
          failures: [],
          overread: 0,
          ...(refused === undefined ? {} : { refused }),
        }
        session.delivery.succeed(id, {}, detail)
      }
      const { counters } = engine
      if (counters.queued >= engine.maxQueued) {
        const advice = 'wait for some requests to finish, or raise maxQueued'
        refuse(failure('ERR_DEEPRING_QUEUE_FULL', work.syscall, `too many queued operations (${advice})`))
        return
      }
      const ranges = rangesOf(numbers, view.byteLength, [positions, lengths, offsets])
      if (!Array.isArray(ranges)) {
        refuse(failure('ERR_DEEPRING_INVALID', work.syscall, 'invalid argument'), ranges)
        return
      }
      const overlap = overlapOf(ranges, work.write)
      if (overlap !== undefined) {
        const [one, { index, position, length }] = overlap
        const where = work.write ? 'in the file' : 'in memory'
        const message = `two ranges of one call overlap; the other one is range ${one.index} (${where})`
        refuse(failure('ERR_DEEPRING_OVERLAP', work.syscall, message, { index, position, requested: length }))
        return
      }
      const priority = number(MANY.priority) || file.priority || PRIORITY.throughput
      const runs = runsOf(ranges, work.write ? 0 : gap)
      counters.submitted += 1
      counters.queued += 1
      const request = session.launch<Work>({
        engine,
        priority,
        file,
        syscall: work.syscall,
        steps: manySteps(file, work, runs, engine.blockBytes),
        settle(outcome, self) {
          session.running.delete(id)
          counters.queued -= 1
          if (outcome.kind === 'canceled') {
            counters.canceled += 1
            session.delivery.cancel(id)
          } else if (outcome.kind === 'failed') {
            counters.failed += 1
            refuse(outcome.failure)
          } else {
            const { many, moved } = work
            if (many.failure === undefined) engine.count(work.write, moved, self.retries, priority, self.times.allMs)
            else counters.failed += 1
            session.delivery.succeed(id, fieldsOf(moved, self), many)
          }
        },
      })
      if (!request.isSettled) session.running.set(id, request)
    },
  }
}
