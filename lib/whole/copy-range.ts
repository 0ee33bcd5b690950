/**
 * The steps of a copy from one open file to another: {@link cloneFile}, {@link copyRange}, {@link takeMetadata}.
 *
 * ```text
 *   parts of the range that are not holes ──► lanes: read a block, write it ──► its checksum, with holes as zeros
 * ```
 */

import { connect } from '../core/completions.ts'
import type { DeepringError } from '../core/errors.ts'
import type { Finish, Operation } from '../core/operation.ts'
import { inLanes } from '../core/parts.ts'
import type { RecordView } from '../core/record.ts'
import { control } from '../file/control.ts'
import { stateOf, type FileHandle } from '../file/file.ts'
import type { BigIntFileStat } from '../file/stat.ts'
import { crc32c, crc32cCombine } from '../memory/checksum.ts'

/** Bytes of a block: what the engine gives to a device at once. */
const BLOCK_BYTES = 4 << 20

/** One number has two names. */
const UNSUPPORTED: ReadonlySet<string> = new Set(['EOPNOTSUPP', 'ENOTSUP'])

/** What a file system answers that cannot clone, or not these files. */
const UNCLONABLE: ReadonlySet<string> = new Set([...UNSUPPORTED, 'EXDEV', 'EINVAL', 'ETXTBSY', 'EPERM', 'EACCES'])

/** A range, and how to copy it. */
export interface RangeCopy {
  readonly start: number
  readonly end: number
  /** Blocks at once. */
  readonly lanes: number
  readonly signal: AbortSignal | null
  /** Called with the bytes of each block that was written. */
  readonly onBlock: (bytes: number) => void
}

/** Lets a file share the space of another one. False if the file system does not. */
export async function cloneFile(from: FileHandle, to: FileHandle, bytes: number): Promise<boolean> {
  if (bytes === 0) return false
  try {
    await run(to, (id, number) => connect().cloneRange(id, number, 0, stateOf(from).number, 0, bytes))
    return true
  } catch (error) {
    if (UNCLONABLE.has((error as DeepringError).code)) return false
    throw error
  }
}

/** Whether a file has no holes. */
export function isFull({ blocks, size }: BigIntFileStat): boolean {
  return blocks * 512n >= size
}

/** Gets room in one piece, so that a full disk is found before anything is written. */
export async function reserve(file: FileHandle, bytes: number): Promise<void> {
  if (bytes === 0) return
  try {
    await run(file, (id, number) => connect().allocateRange(id, number, 0, bytes))
  } catch (error) {
    if (!UNSUPPORTED.has((error as DeepringError).code)) throw error
  }
}

/** Gives a file its length, where it ends in a hole. */
export async function settleLength(file: FileHandle, bytes: number): Promise<void> {
  if ((await file.stat()).size < bytes) await file.truncate(bytes)
}

/** Copies permissions and times. */
export async function takeMetadata(from: FileHandle, to: FileHandle): Promise<void> {
  await run(to, (id, number) => connect().takeMetadata(id, number, stateOf(from).number, true))
}

/** Copies the bytes of a range, except of its holes. */
export async function copyRange(from: FileHandle, to: FileHandle, range: RangeCopy): Promise<void> {
  await moveRange(from, to, range, undefined)
}

/** As {@link copyRange}. Returns the CRC-32C of the range, in which holes are zeros. */
export async function copyRangeSummed(from: FileHandle, to: FileHandle, range: RangeCopy): Promise<number> {
  const sums = new Map<number, readonly [length: number, crc: number]>()
  await moveRange(from, to, range, sums)
  let [at, crc] = [range.start, 0]
  for (const [position, [length, sum]] of [...sums].toSorted(([one], [other]) => one - other)) {
    crc = crc32cCombine(appendZeros(crc, position - at), sum, length)
    at = position + length
  }
  return appendZeros(crc, range.end - at)
}

/** The parts of a range that are not holes: where each begins, and where it ends. */
export async function* dataRanges(
  file: FileHandle,
  start: number,
  end: number,
): AsyncGenerator<readonly [number, number], undefined> {
  for (let from = start; from < end;) {
    const numbers = await run<Float64Array>(
      file,
      (id, number) => connect().dataRanges(id, number, from, end),
      (_operation: Operation, { detail }: RecordView) => detail as Float64Array,
    )
    if (numbers.length === 0) return
    for (let nth = 0; nth < numbers.length; nth += 2) {
      from = numbers[nth + 1] as number
      yield [numbers[nth] as number, from]
    }
  }
}

async function moveRange(
  from: FileHandle,
  to: FileHandle,
  { start, end, lanes, signal, onBlock }: RangeCopy,
  sums: Map<number, readonly [length: number, crc: number]> | undefined,
): Promise<void> {
  const blocks = blocksOf(from, start, end)
  const count = Math.min(lanes, Math.ceil((end - start) / BLOCK_BYTES))
  const checksum = sums === undefined ? undefined : ('crc32c' as const)
  await inLanes(count, signal, async (stop) => {
    const memory = from.engine.allocateUnsafe(Math.min(BLOCK_BYTES, end - start))
    try {
      for (;;) {
        const next = await blocks.next()
        if (next.done === true) return
        const [position, length] = next.value
        const transfer = { position, length, signal: stop }
        const { receipt } = await from.read(memory, { ...transfer, exact: true, checksum })
        sums?.set(position, [length, receipt.checksum as number])
        await to.write(memory, transfer)
        onBlock(length)
      }
    } finally {
      memory[Symbol.dispose]()
    }
  })
}

/** The blocks of what is not a hole: where each begins, and how long it is. They end at multiples of their size. */
async function* blocksOf(
  file: FileHandle,
  start: number,
  end: number,
): AsyncGenerator<readonly [number, number], undefined> {
  for await (const [first, last] of dataRanges(file, start, end)) {
    for (let at = first; at < last;) {
      const stop = Math.min(last, at - (at % BLOCK_BYTES) + BLOCK_BYTES)
      yield [at, stop - at]
      at = stop
    }
  }
}

/** The CRC-32C of bytes and zeros behind them. */
function appendZeros(crc: number, bytes: number): number {
  return crc32cCombine(crc, crcOfZeros(bytes), bytes)
}

/** By doubling: a hole can be larger than any drive. */
function crcOfZeros(bytes: number): number {
  if (bytes <= 1) return crc32c(new Uint8Array(bytes))
  const half = Math.floor(bytes / 2)
  const crc = crcOfZeros(half)
  return appendZeros(crc32cCombine(crc, crc, half), bytes % 2)
}

/** A request on a file without options. */
function run<T = void>(file: FileHandle, stage: (id: number, number: number) => void, finish?: Finish): Promise<T> {
  return control<T>(stateOf(file), file, 'copy', undefined, stage, finish)
}
