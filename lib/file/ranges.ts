/**
 * The ranges of a call with many, passed on as the bytes of typed arrays.
 *
 * A list can have a million numbers, so none of a typed array is looked at here. The binding finds the first range that is
 * not one, and what is wrong with it is said here. Arrays become a `Float64Array`.
 */

import { invalidType, invalidValue, outOfRange } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'
import { NUMBERS, type Refused } from '../core/record.ts'

/** A list of numbers of bytes. Typed arrays are the fastest, `Float64Array` above all. */
export type Numbers = Float64Array | BigUint64Array | Uint32Array | readonly (number | bigint)[]

/** Many ranges of a file, and where they are in a buffer. All numbers are in bytes. */
export interface Ranges {
  /** Where each begins in the file. */
  positions: Numbers
  /** How long each is, or all of them are. */
  lengths: number | bigint | Numbers
  /** Where each begins in the buffer. Default: packed, in their order. */
  offsets?: Numbers | undefined
}

/** A list as it crosses. */
export interface List {
  /** Of {@link NUMBERS}. */
  readonly kind: number
  readonly bytes: Uint8Array
}

/** Ranges as they cross. */
export interface ListedRanges {
  readonly count: number
  readonly positions: List
  /** Of every range, if `lengths` has no list. */
  readonly length: number
  readonly lengths: List
  readonly offsets: List
}

/** The most ranges of one call. */
const RANGES_MAX = 2 ** 20

const NO_LIST: List = { kind: NUMBERS.none, bytes: new Uint8Array(0) }

const KEYS: ReadonlySet<string> = new Set(['positions', 'lengths', 'offsets'])

/** The ranges of a call: lists of one length. */
export function rangesOf(ranges: unknown, name = 'ranges'): ListedRanges {
  if (typeof ranges !== 'object' || ranges === null)
    throw invalidType(name, 'an object with positions and lengths', ranges)
  const unknown = Object.keys(ranges).find(
    (key) => !KEYS.has(key) && (ranges as Record<string, unknown>)[key] !== undefined,
  )
  if (unknown !== undefined)
    throw invalidValue(
      `${name}.${unknown}`,
      'It is not one of positions, lengths and offsets.',
      (ranges as never)[unknown],
    )
  const { positions: givenPositions, lengths: givenLengths, offsets: givenOffsets } = ranges as Partial<Ranges>
  const positions = numbersOf(givenPositions, `${name}.positions`)
  const count = positions.length
  if (count > RANGES_MAX) throw outOfRange(`${name}.positions.length`, `<= ${RANGES_MAX}`, count)
  const isOne = typeof givenLengths === 'number' || typeof givenLengths === 'bigint'
  const length = isOne ? bytesOf(givenLengths, `${name}.lengths`) : 0
  const lengths = isOne ? undefined : numbersOf(givenLengths, `${name}.lengths`, count)
  const offsets = givenOffsets === undefined ? undefined : numbersOf(givenOffsets, `${name}.offsets`, count)
  return {
    count,
    positions: listOf(positions),
    length,
    lengths: lengths === undefined ? NO_LIST : listOf(lengths),
    offsets: offsets === undefined ? NO_LIST : listOf(offsets),
  }
}

type Typed = Float64Array | BigUint64Array | Uint32Array

/** A list, of `count` numbers. */
function numbersOf(value: unknown, name: string, count?: number): Typed {
  const list = typedOf(value, name)
  if (count !== undefined && list.length !== count)
    throw invalidValue(`${name}.length`, `There are ${count} positions.`, list.length)
  return list
}

function typedOf(value: unknown, name: string): Typed {
  if (value instanceof Float64Array || value instanceof BigUint64Array || value instanceof Uint32Array) return value
  if (!Array.isArray(value))
    throw invalidType(name, 'a Float64Array, BigUint64Array or Uint32Array, or an array of numbers', value)
  const list = new Float64Array(value.length)
  for (let index = 0; index < value.length; index++) list[index] = bytesOf(value[index], `${name}[${index}]`)
  return list
}

/** Throws what is wrong with a range of a call whose buffer has `size` bytes. */
export function refuse({ index, ...given }: Refused, size: number, name = 'ranges'): never {
  bytesOf(given.position, `${name}.positions[${index}]`)
  const length = bytesOf(given.length, `${name}.lengths[${index}]`)
  const offset = bytesOf(given.offset, `${name}.offsets[${index}]`)
  if (offset + length > size)
    throw outOfRange(`${name}[${index}]`, `within the ${size} bytes of the buffer`, `${length} bytes at ${offset}`)
  throw outOfRange(`${name}.positions[${index}]`, 'such that its end is a safe integer too', given.position)
}

function listOf(list: Typed): List {
  const kind =
    list instanceof Float64Array ? NUMBERS.float64 : list instanceof Uint32Array ? NUMBERS.uint32 : NUMBERS.uint64
  return { kind, bytes: new Uint8Array(list.buffer, list.byteOffset, list.byteLength) }
}
