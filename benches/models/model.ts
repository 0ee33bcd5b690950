/**
 * A safetensors file with several copies of a model's tensors, written without deepring.
 *
 * Its data are the tiled weights of `tiles.ts`, as all files of the bench: each page carries its
 * number, so that no two copies are the same.
 */

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { BenchContext } from '../bench-context.ts'
import { READ_SEED } from '../scratch.ts'
import { DTYPES } from '../../index.ts'
import { bytesOf, COPIES_BYTES, fewTensors, manyTensors, type Described, type Weights } from './weights.ts'

/** A file of tensors, and how to recognize its bytes. */
export interface Model {
  /** What it has, for the report. */
  readonly label: string
  readonly file: string
  /** Bytes of the file. */
  readonly bytes: number
  /** Bytes of the tensors. */
  readonly tensorBytes: number
  readonly count: number
  /** Where the data begins. */
  readonly start: number
  /** The file with the source bytes of the tiling, and where in it this file begins. */
  readonly source: string
  readonly origin: number
  readonly seed: number
}

const LENGTH_BYTES = 8
const PAGE_BYTES = 4096

/**
 * `'copies'`: one model behind the other, each in its own order. `'reference'`: all tensors by element
 * type, then by name, as the reference implementation writes them.
 */
type Order = 'copies' | 'reference'

/**
 * Few tensors, most bytes in large ones: 48 copies for a large file of 4 GiB, in proportion for
 * another size, and at least one.
 */
export function fewTensorsModel(context: BenchContext): Promise<Model> {
  const weights = fewTensors(context.scratch.folder)
  return modelOf(context, 'few-tensors', weights, copiesOf(weights, context), 'copies')
}

/** Many tensors, most of them small: 24 copies for 4 GiB; and the same with one copy. */
export async function manyTensorsModels(context: BenchContext): Promise<[many: Model, one: Model]> {
  const weights = manyTensors(context.scratch.folder)
  return [
    await modelOf(context, 'many-tensors', weights, copiesOf(weights, context), 'reference'),
    await modelOf(context, 'many-tensors-once', weights, 1, 'reference'),
  ]
}

function copiesOf({ copies }: Weights, { bytes }: BenchContext): number {
  return Math.max(1, Math.round((copies * bytes) / COPIES_BYTES))
}

/** Writes the file through to the disk, unless it is there. */
async function modelOf(
  { scratch, native }: BenchContext,
  name: string,
  weights: Weights,
  copies: number,
  order: Order,
): Promise<Model> {
  const tensors = Array.from({ length: copies }, (_, copy) => copyOf(weights.tensors, copy)).flat()
  if (order === 'reference') tensors.sort(asReference)
  const file = join(scratch.folder, name)
  const header = headerOf(tensors, weights.startInPage)
  const sourceBytes = weights.tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0)
  const tensorBytes = sourceBytes * copies
  const model: Model = {
    label: `${weights.name} × ${copies}`,
    file,
    bytes: header.length + tensorBytes,
    tensorBytes,
    count: tensors.length,
    start: header.length,
    source: weights.source,
    // The tiling begins anew where the data does.
    origin: sourceBytes - (header.length % sourceBytes),
    seed: READ_SEED,
  }
  if (!existsSync(file)) {
    writeFileSync(`${file}.header`, header)
    const { bytes, source, origin, seed } = model
    await native.run('model', { file, bytes, source, origin, seed, header: `${file}.header` })
  }
  return model
}

function copyOf(tensors: readonly Described[], copy: number): Described[] {
  return tensors.map(({ name, dtype, shape }) => ({ name: `${String(copy).padStart(2, '0')}.${name}`, dtype, shape }))
}

/** By element type, the widest first, then by name. */
function asReference(a: Described, b: Described): number {
  const [one, other] = [rank(a), rank(b)]
  if (one !== other) return one - other
  return a.name < b.name ? -1 : 1
}

function rank({ dtype }: Described): number {
  return -DTYPES[dtype].bytes * 100 + dtype.charCodeAt(0)
}

/** The length and the JSON, with spaces so that the data begins at `startInPage` of a page. */
function headerOf(tensors: readonly Described[], startInPage: number): Buffer {
  const entries: string[] = ['"__metadata__":{"format":"pt"}']
  let begin = 0
  for (const tensor of tensors) {
    const end = begin + bytesOf(tensor)
    const { name, dtype, shape } = tensor
    entries.push(
      `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${begin},${end}]}`,
    )
    begin = end
  }
  const json = Buffer.from(`{${entries.join(',')}}`)
  const least = LENGTH_BYTES + json.length
  const start = least + ((startInPage - (least % PAGE_BYTES) + PAGE_BYTES) % PAGE_BYTES)
  const header = Buffer.alloc(start, ' ')
  header.writeBigUInt64LE(BigInt(start - LENGTH_BYTES), 0)
  json.copy(header, LENGTH_BYTES)
  return header
}
