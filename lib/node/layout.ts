/** The header of a file that is to be written, and where its tensors go. Pure. */

import { Buffer } from 'node:buffer'
import { quotedName } from '../core/errors.ts'
import type { SaveRequest, TensorColumns } from '../core/tensors.ts'
import { BITS, NAMES } from './dtype.ts'
import { failed, type Failed } from './failure.ts'
import { compareBytes, LENGTH_BYTES, METADATA } from './header.ts'
import { KEY, seal, textOf } from './sums.ts'

/** A tensor that is to be written. */
export interface Declared {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  readonly bytes: number
}

/** Where everything of a file goes. */
export interface Layout {
  /** The bytes of the file in front of the data. Checksums are zeros. */
  readonly header: Buffer
  /** The indices of the tensors in the order of their bytes. */
  readonly order: readonly number[]
  /** Where each begins in the file, by its index. */
  readonly positions: readonly number[]
  readonly size: number
}

/** The longest header that the reference reads. */
const HEADER_BYTES_MAX = 100_000_000

const ALIGN_MIN = 8
const ALIGN_MAX = 2 ** 20

/** What direct readers like tensors to begin on. */
const BLOCK_BYTES = 4096

export function invalid(message: string): Failed {
  return failed('ERR_DEEPRING_INVALID', '', message)
}

/** Tensors as they cross. */
export function declaredIn({ names, nameBytes, dtypes, dtypeOf, ranks, extents }: TensorColumns): Declared[] {
  const text = Buffer.from(names)
  let [at, extent] = [0, 0]
  return Array.from(nameBytes, (length, nth) => {
    const name = text.toString('utf8', at, at + length)
    at += length
    const rank = ranks[nth] as number
    const shape = [...extents.subarray(extent, extent + rank)]
    extent += rank
    const dtype = dtypes[dtypeOf[nth] as number] ?? ''
    const bytes = (shape.reduce((product, each) => product * each, 1) * (BITS[dtype] ?? 0)) / 8
    return { name, dtype, shape, bytes }
  })
}

export function layoutOf(tensors: readonly Declared[], request: SaveRequest): Layout {
  const { align } = request
  if (!Number.isInteger(Math.log2(align)) || align < ALIGN_MIN || align > ALIGN_MAX)
    throw invalid(`the alignment ${align} is not a power of two from ${ALIGN_MIN} to 2^20`)
  check(tensors)
  const order = orderOf(tensors, request.order)
  const header = headerOf(tensors, order, request)
  const positions: number[] = []
  let position = header.length
  for (const index of order) {
    positions[index] = position
    position += (tensors[index] as Declared).bytes
  }
  return { header, order, positions, size: position }
}

/** The header with these checksums of the tensors, by their indices. */
export function sealed({ header, order }: Layout, sums: readonly number[]): Buffer {
  const empty = textOf(new Uint32Array(order.length))
  const full = textOf(Uint32Array.from(order, (index) => sums[index] as number))
  // With the key: other metadata can have the same text.
  const key = `"${KEY}":"`
  const at = header.indexOf(`${key}${empty}"`)
  if (at >= 0) {
    header.write(full, at + key.length, 'latin1')
    seal(header)
  }
  return header
}

function check(tensors: readonly Declared[]): void {
  const names = new Set<string>()
  let total = 0
  for (const { name, dtype, shape, bytes } of tensors) {
    if (names.has(name)) throw invalid(`two tensors have the name ${quotedName(name)}`)
    names.add(name)
    if (name === METADATA) throw invalid(`no tensor can have the name ${METADATA}`)
    if (!Number.isInteger(bytes))
      throw invalid(
        `${dtype} of shape [${shape.join(', ')}] does not have a whole number of bytes, tensor ${quotedName(name)}`,
      )
    total += bytes
    if (total > Number.MAX_SAFE_INTEGER) throw invalid(`the file or the tensor ${quotedName(name)} is larger than 2^53`)
  }
}

/** The order of the bytes. With `blocks`, wide elements and whole blocks come first, so that most tensors begin on one. */
function orderOf(tensors: readonly Declared[], order: SaveRequest['order']): number[] {
  const indices = tensors.map((_, index) => index)
  if (order === 'given') return indices
  const byName = (a: Declared, b: Declared): number => compareBytes(a.name, b.name)
  const compare =
    order === 'reference'
      ? (a: Declared, b: Declared) => NAMES.indexOf(b.dtype) - NAMES.indexOf(a.dtype) || byName(a, b)
      : (a: Declared, b: Declared) =>
          (BITS[b.dtype] ?? 0) - (BITS[a.dtype] ?? 0) ||
          Number(a.bytes % BLOCK_BYTES !== 0) - Number(b.bytes % BLOCK_BYTES !== 0) ||
          b.bytes - a.bytes ||
          byName(a, b)
  return indices.toSorted((a, b) => compare(tensors[a] as Declared, tensors[b] as Declared))
}

/** The length, the JSON, and spaces up to the data. */
function headerOf(
  tensors: readonly Declared[],
  order: readonly number[],
  { metadata: given, align, checksums }: SaveRequest,
): Buffer {
  const metadata = new Map<string, string>()
  for (let at = 0; at + 1 < given.length; at += 2) metadata.set(given[at] as string, given[at + 1] as string)
  // Programs on PyTorch refuse files without it.
  if (!metadata.has('format')) metadata.set('format', 'pt')
  // Those of another file.
  metadata.delete(KEY)
  if (checksums) metadata.set(KEY, textOf(new Uint32Array(tensors.length)))
  const texts = [...metadata]
    .toSorted(([a], [b]) => compareBytes(a, b))
    .map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`)
  const parts = [`{"${METADATA}":{${texts.join(',')}}`]
  let begin = 0
  for (const index of order) {
    const { name, dtype, shape, bytes } = tensors[index] as Declared
    const end = begin + bytes
    parts.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${begin},${end}]}`,
    )
    begin = end
  }
  const json = Buffer.from(`${parts.join(',')}}`)
  const start = Math.ceil((LENGTH_BYTES + json.length) / align) * align
  const length = start - LENGTH_BYTES
  if (length > HEADER_BYTES_MAX)
    throw invalid(`the header would have ${length} bytes, and readers allow ${HEADER_BYTES_MAX}: write several files`)
  const header = Buffer.alloc(start, ' ')
  header.writeBigUInt64LE(BigInt(length))
  json.copy(header, LENGTH_BYTES)
  return header
}
