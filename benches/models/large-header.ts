/**
 * A file with as many tensors as the largest published model has: 371 474, in a header of 49.7 MB.
 *
 * Its data was never written, so that the file takes little room on the disk.
 */

import { existsSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Scratch } from '../scratch.ts'

/** How many tensors it has. */
export const HEADER_TENSORS = 371_474

/** The length of its header, in bytes. */
export const HEADER_BYTES = 49_700_000

const LENGTH_BYTES = 8

const EXPERTS = 512
const PARTS = ['gate_proj', 'up_proj', 'down_proj'] as const
/** What a part of a quantized expert is stored as. */
const TENSORS = [
  ['weight_packed', 'I32', [1024, 32]],
  ['weight_scale', 'BF16', [1024, 8]],
  ['weight_shape', 'I64', [2]],
  ['input_scale', 'F32', [1]],
] as const
const BYTES = { I32: 4, BF16: 2, I64: 8, F32: 4 } as const

/** The path of the file; or of a smaller one of the same kind. */
export function largeHeader(scratch: Scratch, tensors: number = HEADER_TENSORS): string {
  const file = join(scratch.folder, `header-of-${tensors}`)
  if (existsSync(file)) return file
  const entries: string[] = []
  let begin = 0
  for (let nth = 0; nth < tensors; nth += 1) {
    const [kind, dtype, shape] = TENSORS[nth % TENSORS.length]!
    const part = Math.floor(nth / TENSORS.length)
    const expert = Math.floor(part / PARTS.length)
    const layer = Math.floor(expert / EXPERTS)
    const name = `text_model.layers.${layer}.mlp.experts.${expert % EXPERTS}.${PARTS[part % PARTS.length]}.${kind}`
    const end = begin + shape.reduce<number>((product, extent) => product * extent, BYTES[dtype])
    entries.push(`"${name}":{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${begin},${end}]}`)
    begin = end
  }
  const json = Buffer.from(`{${entries.join(',')}}`)
  const length = tensors === HEADER_TENSORS ? HEADER_BYTES : json.length
  if (json.length > length) throw new Error(`the header has ${json.length} bytes, more than ${length}`)
  const header = Buffer.alloc(LENGTH_BYTES + length, ' ')
  header.writeBigUInt64LE(BigInt(length), 0)
  json.copy(header, LENGTH_BYTES)
  writeFileSync(file, header)
  truncateSync(file, header.length + begin)
  return file
}
