/**
 * The ranges of a call with many: checked here, and passed on as the bytes of typed arrays.
 *
 * A list can have a million numbers, so they are looked at in plain loops, and never copied here but for arrays, which
 * become a `Float64Array`.
 */

import { invalidType, invalidValue, outOfRange } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'
import { NUMBERS } from '../core/record.ts'

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

/** Ranges that have been checked. */
export interface CheckedRanges {
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

/** Half words above which a 64-bit number is no safe integer. */
const SAFE_HIGH_WORD = 0x1f_ffff

const KEYS: ReadonlySet<string> = new Set(['positions', 'lengths', 'offsets'])

/** The ranges of a call whose buffer has `size` bytes. */
export function rangesOf(ranges: unknown, size: number, name = 'ranges'): CheckedRanges {
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
  checkFit(positions, lengths ?? length, offsets, size, name)
  return {
    count,
    positions: listOf(positions),
    length,
    lengths: lengths === undefined ? NO_LIST : listOf(lengths),
    offsets: offsets === undefined ? NO_LIST : listOf(offsets),
  }
}

type Typed = Float64Array | BigUint64Array | Uint32Array

/** A list of safe integers, 0 or more. */
function numbersOf(value: unknown, name: string, count?: number): Typed {
  const list = typedOf(value, name)
  if (count !== undefined && list.length !== count)
    throw invalidValue(`${name}.length`, `There are ${count} positions.`, list.length)
  if (list instanceof Float64Array) {
    for (let index = 0; index < list.length; index++) {
      const number = list[index] as number
      // Not NaN, not infinite, not negative, not a fraction.
      if (!(number >= 0 && number <= Number.MAX_SAFE_INTEGER && Math.floor(number) === number))
        bytesOf(number, `${name}[${index}]`)
    }
  } else if (list instanceof BigUint64Array) {
    // The words are compared, because each read of a bigint makes an object.
    const words = new Uint32Array(list.buffer, list.byteOffset, list.length * 2)
    for (let index = 0; index < list.length; index++)
      if ((words[index * 2 + 1] as number) > SAFE_HIGH_WORD) bytesOf(list[index], `${name}[${index}]`)
  }
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

/** Checks that all ranges are in the buffer, and end at safe positions. */
function checkFit(
  positions: Typed,
  lengths: Typed | number,
  offsets: Typed | undefined,
  size: number,
  name: string,
): void {
  let packed = 0
  for (let index = 0; index < positions.length; index++) {
    const length = typeof lengths === 'number' ? lengths : Number(lengths[index])
    const offset = offsets === undefined ? packed : Number(offsets[index])
    if (offset + length > size) {
      const where = `${length} bytes at ${offset}`
      throw outOfRange(`${name}[${index}]`, `within the ${size} bytes of the buffer`, where)
    }
    packed += length
    if (Number(positions[index]) + length > Number.MAX_SAFE_INTEGER)
      throw outOfRange(`${name}.positions[${index}]`, 'such that its end is a safe integer too', positions[index])
  }
}

function listOf(list: Typed): List {
  const kind =
    list instanceof Float64Array ? NUMBERS.float64 : list instanceof Uint32Array ? NUMBERS.uint32 : NUMBERS.uint64
  return { kind, bytes: new Uint8Array(list.buffer, list.byteOffset, list.byteLength) }
}
