/**
 * Bytes of tensors into memory, in groups: each becomes one piece of memory, and neighbors in a file are read together.
 */

import type { LoadedTensors, Verified } from '../core/tensors.ts'
import { MANY_FLAG } from '../core/record.ts'
import { sumSteps } from './checksum.ts'
import { crc32c } from './crc32c.ts'
import { alignOf } from './dtype.ts'
import { failed, Failed, failureOf } from './failure.ts'
import type { NodeFile } from './files.ts'
import { forEachOf } from '../core/for-each.ts'
import type { Job } from './job.ts'
import { manySteps, runsOf, Work, type Range } from './many.ts'
import type { Session } from './session.ts'
import { runsOfSlice, type Bounds } from './slices.ts'
import { CANCELED, type Steps } from './steps.ts'
import { sumOfHeader } from './sums.ts'
import type { Table } from './table.ts'
import { bytesSteps } from './open-tables.ts'

/** Where a tensor begins in its group: a cache line, which suits every element type. */
const ALIGN_BYTES = 64

/** Tensors that share one piece of memory. */
export interface Group {
  readonly bytes: number
  readonly indices: number[]
  readonly offsets: number[]
}

/** What is read of a table. */
export interface Plan {
  readonly table: Table
  readonly slices: ReadonlyMap<number, Bounds>
  readonly groups: readonly Group[]
  readonly bytes: number
  /** Tensors whose position in the file breaks the alignment of their elements. */
  readonly realigned: number
  readonly verify: boolean
}

/** The extents of a tensor, or of a slice of it: in its file, and behind each other in memory. */
function extentsOf(table: Table, index: number, slices: ReadonlyMap<number, Bounds>): readonly [number, number][] {
  const row = table.row(index)
  const bounds = slices.get(index)
  if (bounds === undefined) return [[row.position, row.length]]
  const { length, starts } = runsOfSlice(row, bounds)
  return Array.from(starts, (start) => [row.position + start, length])
}

/**
 * Puts tensors in groups of at most `groupBytes`, unless one tensor has more.
 *
 * @param indices - Those that are wanted, in their order.
 */
export function planOf(
  table: Table,
  indices: readonly number[],
  slices: ReadonlyMap<number, Bounds>,
  groupBytes: number,
  verify: boolean,
): Plan {
  const selected = new Set(indices)
  for (const index of slices.keys())
    if (!selected.has(index))
      throw failed('ERR_DEEPRING_NOT_FOUND', '', 'there is no such tensor', { tensor: table.row(index).name })
  const groups: { bytes: number; readonly indices: number[]; readonly offsets: number[] }[] = []
  let [total, realigned] = [0, 0]
  for (const index of selected) {
    const extents = extentsOf(table, index, slices)
    const bytes = extents.reduce((sum, [, length]) => sum + length, 0)
    const [first] = extents
    if (first !== undefined && bytes > 0 && first[0] % alignOf(table.row(index).dtype) !== 0) realigned += 1
    total += bytes
    const last = groups.at(-1)
    const offset = last === undefined ? 0 : Math.ceil(last.bytes / ALIGN_BYTES) * ALIGN_BYTES
    if (last === undefined || offset + bytes > groupBytes) groups.push({ bytes, indices: [index], offsets: [0] })
    else {
      last.bytes = offset + bytes
      last.indices.push(index)
      last.offsets.push(offset)
    }
  }
  return { table, slices, groups, bytes: total, realigned, verify }
}

/** Reads tensors into memory, where each begins at its offset. */
export async function fill(
  job: Job,
  { table, slices, verify }: Plan,
  { indices, offsets }: Pick<Group, 'indices' | 'offsets'>,
  memory: Uint8Array,
): Promise<number> {
  const byFile = new Map<NodeFile, { readonly ranges: Range[]; readonly tensors: number[] }>()
  for (const [nth, tensor] of indices.entries()) {
    const file = table.found.files[table.row(tensor).file] as NodeFile
    let wanted = byFile.get(file)
    if (wanted === undefined) {
      wanted = { ranges: [], tensors: [] }
      byFile.set(file, wanted)
    }
    let offset = offsets[nth] as number
    for (const [position, length] of extentsOf(table, tensor, slices)) {
      wanted.ranges.push({ index: wanted.ranges.length, position, length, offset })
      wanted.tensors.push(tensor)
      offset += length
    }
  }
  let overread = 0
  for (const [file, { ranges, tensors }] of byFile) {
    const work = new Work(ranges.length, MANY_FLAG.exact, memory, new Uint8Array())
    await job.run('read', manySteps(file, work, runsOf(ranges, 0), job.engine.blockBytes), file)
    const [first] = work.failures
    if (first !== undefined) throw failedTensor(table, tensors[first.index] as number, new Failed(first))
    overread += work.overread
  }
  if (verify) for (const [nth, index] of indices.entries()) check(table, slices, index, memory, offsets[nth] as number)
  return overread
}

/** The same failure, of a tensor and its file. */
function failedTensor(table: Table, index: number, error: unknown): unknown {
  if (error === CANCELED) return error
  const { name, file } = table.row(index)
  const path = table.found.paths[file] as string
  return new Failed({ ...failureOf(error, 'read'), index: -1, path, tensor: name })
}

/** Compares a whole tensor with the checksum that its file states. */
function check(
  table: Table,
  slices: ReadonlyMap<number, Bounds>,
  index: number,
  memory: Uint8Array,
  offset: number,
): void {
  const expected = table.found.sums[index]
  const { name: tensor, file, position, length } = table.row(index)
  if (expected === undefined || slices.has(index)) return
  const actual = crc32c(memory.subarray(offset, offset + length))
  if (actual === expected) return
  const message = `the checksum is ${hexadecimal(actual)}, not ${hexadecimal(expected)}`
  const path = table.found.paths[file] as string
  throw failed('ERR_DEEPRING_CHECKSUM', '', message, { tensor, path, position, expected, actual })
}

function hexadecimal(sum: number): string {
  return `0x${sum.toString(16).padStart(8, '0')}`
}

/** Loads all groups of a plan, and tensors into memory of the caller. */
export async function loadAll(
  session: Session,
  job: Job,
  plan: Plan,
  into: ReadonlyMap<number, Uint8Array>,
  intoPlan: Plan,
): Promise<LoadedTensors> {
  const { groups } = plan
  job.total = plan.bytes + intoPlan.bytes
  const memories: (Uint8Array<ArrayBuffer> | undefined)[] = []
  let overread = 0
  try {
    await forEachOf([...into], job.engine.pool.threads, async ([index, view]) => {
      overread += await fill(job, intoPlan, { indices: [index], offsets: [0] }, view)
      job.done += view.byteLength
    })
    await forEachOf([...groups.entries()], job.engine.pool.threads, async ([nth, group]) => {
      if (group.bytes === 0) return
      const memory = session.memory.allocate(job.engine.number, group.bytes)
      memories[nth] = memory
      overread += await fill(job, plan, group, memory)
      job.done += group.bytes
    })
  } catch (error) {
    for (const memory of memories) if (memory !== undefined) session.memory.release(memory)
    throw error
  }
  return {
    memories: Uint32Array.from(groups, ({ bytes }, nth) =>
      bytes === 0 ? 0 : session.memory.bring(session.number(), memories[nth] as Uint8Array<ArrayBuffer>),
    ),
    largest: groups.reduce((largest, { bytes }) => Math.max(largest, bytes), 0),
    indices: Uint32Array.from(groups.flatMap(({ indices }) => indices)),
    groupOf: Uint32Array.from(groups.flatMap(({ indices }, nth) => indices.map(() => nth))),
    offsets: Float64Array.from(groups.flatMap(({ offsets }) => offsets)),
    receipt: { bytes: job.total, overread, bounced: 0, realigned: plan.realigned, direct: false },
  }
}

/** Reads what has a checksum, and compares. */
export async function verifyAll(job: Job, table: Table): Promise<Verified> {
  const { found } = table
  const { rows, headers, files, paths, sums } = found
  const damaged: Verified['damaged'] = []
  let unverifiable = 0
  for (const [nth, { length }] of rows.entries()) {
    if (sums[nth] === undefined) unverifiable += 1
    else job.total += length
  }
  for (const [number, stated] of headers.entries()) {
    if (stated === undefined) continue
    const { bytes, place, expected } = stated
    const file = files[number] as NodeFile
    const header = await job.run('read', bytesSteps(file.fd, bytes), file)
    const actual = sumOfHeader(header, place)
    if (actual !== expected)
      damaged.push({ path: paths[number] as string, position: 0, length: bytes, expected, actual })
  }
  let matching = 0
  await forEachOf([...rows.entries()], job.engine.pool.threads, async ([index, { name, file, position, length }]) => {
    const expected = sums[index]
    if (expected === undefined) return
    const of = files[file] as NodeFile
    const steps: Steps<Uint32Array> = sumSteps(of.fd, position, length, 0)
    let actual: number
    try {
      actual = (await job.run('read', steps, of))[0] ?? 0
    } catch (error) {
      throw failedTensor(table, index, error)
    }
    job.done += length
    if (actual === expected) matching += 1
    else damaged.push({ tensor: name, path: paths[file] as string, position, length, expected, actual })
  })
  return { ok: unverifiable === 0 && damaged.length === 0, matching, unverifiable, damaged, bytes: job.total }
}
