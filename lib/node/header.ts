/**
 * The header of a safetensors file, which is believed nothing. It is refused for the same reasons as by the native engine
 * (`crates/deepring-tensors/src/header`): the cases of `tests/hostile` there hold both to that.
 */

import { Buffer } from 'node:buffer'
import { bitsOf } from './dtype.ts'
import { Fault, quoted } from './fault.ts'
import { JsonFault, JsonReader } from './json.ts'

/** Bytes of the length in front of a header. */
export const LENGTH_BYTES = 8

/** The key that is no tensor. */
export const METADATA = '__metadata__'

/** One tensor of a header. Its position counts from the first byte of the data, later from that of its file. */
export interface Row {
  readonly name: string
  readonly dtype: string
  readonly shape: readonly number[]
  position: number
  readonly length: number
  /** The number of its file. */
  file: number
}

/** A header. */
export interface Header {
  /** In the order of their bytes. */
  readonly rows: Row[]
  readonly metadata: ReadonlyMap<string, string>
  /** Bytes behind the last tensor. */
  readonly trailing: number
}

/** Unknown element types that a table can have. */
export const UNKNOWN_MAX = 256

/** The largest number of elements, and of bits, that can be counted. */
export const COUNT_MAX: bigint = 2n ** 64n - 1n

/** What has been found so far. */
interface Walk {
  readonly json: JsonReader
  readonly names: Set<string>
  readonly unknown: Set<string>
  /** What is wrong if the next value has the wrong type. */
  reason: string
  /** The tensor that is being read. */
  tensor: string | undefined
}

/** Reads the JSON of a header whose data has `dataBytes`. Unless `strict`, bytes can follow the last tensor. */
export function parseHeader(bytes: Uint8Array, dataBytes: number, strict: boolean): Header {
  const rows: Row[] = []
  let metadata: ReadonlyMap<string, string> | undefined
  let walk: Walk | undefined
  try {
    const json = new JsonReader(bytes)
    const walking: Walk = { json, names: new Set(), unknown: new Set(), reason: 'json', tensor: undefined }
    walk = walking
    json.object('an object with the tensors of the file', (key) => {
      if (key === METADATA) {
        if (metadata !== undefined) throw new Fault('duplicate', `${METADATA} is there twice`)
        walking.reason = 'metadata'
        metadata = metadataOf(json)
      } else {
        if (walking.names.has(key)) throw new Fault('duplicate', 'the name is there twice', key)
        walking.names.add(key)
        walking.tensor = key
        walking.reason = 'field'
        rows.push(rowOf(walking, key))
        walking.tensor = undefined
      }
      walking.reason = 'json'
    })
    json.end()
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error
    const reason = error.isSyntax ? 'json' : (walk?.reason ?? 'json')
    throw new Fault(reason, `the header is wrong: ${error.message}`, reason === 'json' ? undefined : walk?.tensor)
  }
  const sorted = rows.toSorted((a, b) => a.position - b.position || a.length - b.length)
  const trailing = cover(sorted, dataBytes)
  if (strict && trailing > 0) throw new Fault('trailing', `${trailing} bytes follow the last tensor`)
  return { rows: sorted, metadata: metadata ?? new Map(), trailing }
}

/** Checks that the tensors cover the data from its first byte on. Returns how many bytes are left behind them. */
function cover(rows: readonly Row[], dataBytes: number): number {
  let end = 0
  for (const { name, position: begin, length } of rows) {
    if (begin < end && length > 0)
      throw new Fault('overlap', `it begins at ${begin}, inside of the tensor before it, which ends at ${end}`, name)
    if (begin !== end) throw new Fault('hole', `it begins at ${begin}, and the tensor before it ends at ${end}`, name)
    end = begin + length
    if (end > dataBytes)
      throw new Fault('truncated', `it ends at ${end}, and the file has ${dataBytes} bytes of data`, name)
  }
  return dataBytes - end
}

/** `__metadata__`: an object of strings, or null. Its keys are in the order of their bytes. */
function metadataOf(json: JsonReader): Map<string, string> {
  const found = new Map<string, string>()
  let twice: string | undefined
  if (!json.isNull())
    json.object('an object of strings', (key) => {
      if (found.has(key)) twice ??= key
      found.set(key, json.string())
    })
  if (twice !== undefined) throw new Fault('duplicate', `${METADATA} has the key ${quoted(twice)} twice`)
  return new Map([...found].toSorted(([a], [b]) => compareBytes(a, b)))
}

/** The order of two texts in UTF-8. */
export function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

/** One tensor. */
function rowOf(walk: Walk, name: string): Row {
  const { json } = walk
  let dtype: string | undefined
  let shape: { readonly extents: readonly number[]; readonly elements: number | bigint | undefined } | undefined
  let offsets: readonly [number | bigint, number | bigint] | undefined
  const twice = (field: string): Fault => new Fault('field', `${field} is there twice`, name)
  json.object('an object with dtype, shape and data_offsets', (field) => {
    if (field === 'dtype') {
      const found = dtypeOf(walk, name)
      if (dtype !== undefined) throw twice(field)
      dtype = found
    } else if (field === 'shape') {
      if (shape !== undefined) throw twice(field)
      shape = shapeOf(json)
    } else if (field === 'data_offsets') {
      walk.reason = 'offsets'
      const found = offsetsOf(json)
      walk.reason = 'field'
      if (offsets !== undefined) throw twice(field)
      offsets = found
    } else json.skip()
  })
  const missing = dtype === undefined ? 'dtype' : shape === undefined ? 'shape' : 'data_offsets'
  if (dtype === undefined || shape === undefined || offsets === undefined)
    throw new Fault('field', `${missing} is missing`, name)
  const length = lengthOf(name, dtype, shape.elements, offsets)
  return { name, dtype, shape: shape.extents, position: Number(offsets[0]), length, file: 0 }
}

function dtypeOf({ json, unknown }: Walk, tensor: string): string {
  const name = json.string('the name of an element type')
  if (bitsOf(name) === undefined) unknown.add(name)
  if (unknown.size > UNKNOWN_MAX) throw new Fault('field', 'there are too many unknown element types', tensor)
  return name
}

/** A product, if it can be counted; a `bigint` where numbers are not exact. */
function product(a: number | bigint, b: number | bigint): number | bigint | undefined {
  const quick = Number(a) * Number(b)
  if (quick <= Number.MAX_SAFE_INTEGER) return quick
  const exact = BigInt(a) * BigInt(b)
  return exact > COUNT_MAX ? undefined : exact
}

function shapeOf(json: JsonReader): { readonly extents: number[]; readonly elements: number | bigint | undefined } {
  const extents: number[] = []
  let elements: number | bigint | undefined = 1
  json.array('an array of whole numbers', () => {
    const extent = json.whole()
    if (elements !== undefined) elements = product(elements, extent)
    if (typeof extent === 'bigint') elements = undefined
    extents.push(Number(extent))
  })
  return { extents, elements }
}

function offsetsOf(json: JsonReader): readonly [number | bigint, number | bigint] {
  const found: (number | bigint)[] = []
  json.array('data_offsets of two whole numbers', () => {
    found.push(json.whole())
    if (found.length > 2) throw new JsonFault('data_offsets have more than two numbers', false)
  })
  const [begin, end] = found
  if (begin === undefined || end === undefined) throw new JsonFault('data_offsets have fewer than two numbers', false)
  return [begin, end]
}

/** What one tensor must be by itself. Returns its bytes. */
function lengthOf(
  tensor: string,
  dtype: string,
  elements: number | bigint | undefined,
  [begin, end]: readonly [number | bigint, number | bigint],
): number {
  if (typeof begin === 'bigint' || typeof end === 'bigint')
    throw new Fault('offsets', `data_offsets [${begin}, ${end}] are not below 2^53`, tensor)
  if (elements === undefined) throw new Fault('overflow', 'the shape has more elements than can be counted', tensor)
  if (begin > end) throw new Fault('order', `it ends at ${end}, before its begin at ${begin}`, tensor)
  const each = bitsOf(dtype)
  if (each === undefined) return end - begin
  const bits = product(elements, each)
  if (bits === undefined) throw new Fault('overflow', 'the shape has more bytes than can be counted', tensor)
  const bytes = typeof bits === 'bigint' ? bits / 8n : Math.floor(bits / 8)
  if (product(8, bytes) !== bits)
    throw new Fault('bits', `${elements} elements of ${dtype} do not fill whole bytes`, tensor)
  if (Number(bytes) !== end - begin) {
    const detail = `${elements} elements of ${dtype} have ${bytes} bytes, and data_offsets say ${end - begin}`
    throw new Fault('size', detail, tensor)
  }
  return end - begin
}
