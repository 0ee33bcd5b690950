/** Parts of tensors: which runs of bytes a slice has. */

import { bitsOf } from './dtype.ts'
import { failed, type Failed } from './failure.ts'
import type { Row } from './header.ts'

/** Runs of one slice: each costs an entry of a list. */
const RUNS_MAX = 2 ** 22

/** Where a slice begins and ends, by dimension; `undefined` for all of one. */
export type Bounds = readonly (readonly [start: number, end: number] | undefined)[]

/** Runs of bytes of one length, in a tensor. */
export interface Runs {
  readonly length: number
  readonly starts: Float64Array
}

/** Slices as they cross: of each the index, the number of dimensions, and where each begins and ends, or -1 twice. */
export function boundsIn(numbers: Float64Array): Map<number, Bounds> {
  const found = new Map<number, Bounds>()
  for (let at = 0; at + 1 < numbers.length;) {
    const [index, dimensions] = [numbers[at] as number, numbers[at + 1] as number]
    const bounds = Array.from({ length: dimensions }, (_, nth) => {
      const [start, end] = [numbers[at + 2 + nth * 2] as number, numbers[at + 3 + nth * 2] as number]
      return start < 0 ? undefined : ([start, end] as const)
    })
    found.set(index, bounds)
    at += 2 + dimensions * 2
  }
  return found
}

/** The runs of a slice. */
export function runsOfSlice({ name, dtype, shape }: Row, bounds: Bounds): Runs {
  const refused = (detail: string): Failed => failed('ERR_DEEPRING_SLICE', '', detail, { tensor: name })
  const bits = bitsOf(dtype)
  if (bits === undefined) throw refused('its element type is unknown, so that it has no elements to slice')
  if (bounds.length > shape.length)
    throw refused(`the slice has ${bounds.length} dimensions, and the tensor has ${shape.length}`)
  const ranges = shape.map((extent, dimension) => bounds[dimension] ?? ([0, extent] as const))
  for (const [dimension, [start, end]] of ranges.entries()) {
    const extent = shape[dimension] as number
    if (start > end || end > extent)
      throw refused(`${start}..${end} is not a range of dimension ${dimension}, which has ${extent}`)
  }
  const sliced = ranges.map(([start, end]) => end - start)
  if (sliced.includes(0)) return { length: 0, starts: new Float64Array() }
  const strides = shape.map((_, dimension) =>
    shape.slice(dimension + 1).reduce((product, extent) => product * extent, 1),
  )
  const bytes = (elements: number): number => {
    const size = (elements * bits) / 8
    if (!Number.isInteger(size)) throw refused(`the slice cuts elements of ${dtype} inside of a byte`)
    return size
  }
  // From this dimension on, everything is whole: elements of it lie side by side.
  const inner = Math.max(
    0,
    sliced.findLastIndex((extent, dimension) => extent !== shape[dimension]),
  )
  const outer = strides
    .slice(0, inner)
    .map((stride, dimension) => [sliced[dimension] as number, bytes(stride)] as const)
  const count = outer.reduce((product, [extent]) => product * extent, 1)
  if (count > RUNS_MAX)
    throw refused(
      `the slice has ${count} runs of bytes, more than ${RUNS_MAX}; take whole rows, and of them what is wanted`,
    )
  const length = bytes(shape.length === 0 ? 1 : (sliced[inner] as number) * (strides[inner] as number))
  const first = bytes(ranges.reduce((sum, [start], dimension) => sum + start * (strides[dimension] as number), 0))
  const starts = Float64Array.from({ length: count }, (_, number) => {
    let [at, rest] = [first, number]
    for (const [extent, stride] of outer.toReversed()) {
      at += (rest % extent) * stride
      rest = Math.floor(rest / extent)
    }
    return at
  })
  return { length, starts }
}
