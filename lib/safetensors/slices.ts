/** Slices of tensors: which part of each is read. */

import { DeepringError, invalidType, quotedName } from '../core/errors.ts'
import { DTYPES, type DType } from '../memory/dtype.ts'
import type { Rows, TensorInfo } from './info.ts'

/**
 * A part of a tensor: for each dimension, outermost first, where it begins and where it ends (the end is not in it). `null`
 * is the whole dimension, and so is every one that is left out.
 */
export type Slice = readonly (readonly [start: number, end: number] | null)[]

/** Slices by the indices of their tensors. */
export type Slices = ReadonlyMap<number, Slice>

/** What an error calls the slice of a call. */
const SLICE = (): string => 'options.slice'

export const NO_SLICES: Slices = new Map()

/** Slices by name, checked: those of a call. */
export function slicesOf(rows: Rows, value: unknown, name = 'options.slices'): Slices {
  if (value === undefined) return NO_SLICES
  const { entries } = (value ?? {}) as Partial<ReadonlyMap<unknown, unknown>>
  if (typeof entries !== 'function') throw invalidType(name, 'a Map from names to slices', value)
  const slices = new Map<number, Slice>()
  for (const [tensor, slice] of (value as ReadonlyMap<unknown, unknown>).entries()) {
    if (typeof tensor !== 'string') throw invalidType(name, 'a Map from names to slices', tensor)
    const index = rows.indexOf(tensor)
    slices.set(
      index,
      sliceOf(rows.at(index), slice, () => `${name}.get(${quotedName(tensor)})`),
    )
  }
  return slices
}

/** A slice of a tensor, checked. `name` is what an error calls it. */
export function sliceOf(info: TensorInfo, value: unknown, name: () => string = SLICE): Slice {
  if (!Array.isArray(value)) throw invalidType(name(), 'an array with [start, end] or null for each dimension', value)
  const { name: tensor, shape, dtype } = info
  if (!Object.hasOwn(DTYPES, dtype))
    throw refused(tensor, `Its element type ${dtype} is unknown, so that it has no elements to slice`)
  if (value.length > shape.length)
    throw refused(tensor, `The slice has ${value.length} dimensions, and the tensor has ${shape.length}`)
  return value.map((range: unknown, dimension) => rangeOf(tensor, range, dimension, name, shape[dimension]))
}

/** A slice of a tensor whose shape is not known here, as numbers for the binding, which checks it against the shape. */
export function sliceNumbersFor(tensor: string, value: unknown): Float64Array {
  if (!Array.isArray(value)) throw invalidType(SLICE(), 'an array with [start, end] or null for each dimension', value)
  const numbers: number[] = []
  for (const [dimension, range] of (value as unknown[]).entries())
    numbers.push(...(rangeOf(tensor, range, dimension, SLICE, undefined) ?? [-1, -1]))
  return Float64Array.from(numbers)
}

function rangeOf(
  tensor: string,
  range: unknown,
  dimension: number,
  name: () => string,
  extent: number | undefined,
): readonly [number, number] | null {
  if (range === null || range === undefined) return null
  if (!Array.isArray(range) || range.length !== 2)
    throw invalidType(`${name()}[${dimension}]`, 'an array [start, end] or null', range)
  const [start, end] = range as [unknown, unknown]
  const isRange = Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= (start as number)
  if (!isRange || (start as number) > (end as number) || (end as number) > (extent ?? Infinity)) {
    const which = extent === undefined ? '' : `, which has ${extent}`
    throw refused(tensor, `[${String(start)}, ${String(end)}] is not a range of dimension ${dimension}${which}`)
  }
  return [start as number, end as number]
}

/** The shape of a tensor, or of its slice. */
export function shapeOf({ shape }: TensorInfo, slice: Slice | undefined): readonly number[] {
  if (slice === undefined) return shape
  return Object.freeze(
    shape.map((extent, dimension) => {
      const range = slice[dimension] ?? null
      return range === null ? extent : range[1] - range[0]
    }),
  )
}

/** Bytes of a tensor, or of its slice. */
export function bytesOfShape(
  { dtype, byteLength }: TensorInfo,
  shape: readonly number[],
  slice: Slice | undefined,
): number {
  if (slice === undefined) return byteLength
  // Before anything is multiplied: beside an extent of 0, others can be of any size.
  if (shape.includes(0)) return 0
  return (shape.reduce((product, extent) => product * extent, 1) * DTYPES[dtype as DType].bits) / 8
}

/** Slices as numbers for the binding. */
export function sliceNumbers(slices: Slices): Float64Array {
  const numbers: number[] = []
  for (const [index, slice] of slices) {
    numbers.push(index, slice.length)
    for (const range of slice) numbers.push(...(range ?? [-1, -1]))
  }
  return Float64Array.from(numbers)
}

function refused(tensor: string, why: string): DeepringError {
  return new DeepringError(`${why}, tensor ${quotedName(tensor)}`, { code: 'ERR_DEEPRING_SLICE', tensor })
}
