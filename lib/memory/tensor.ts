/**
 * Tensors in engine memory: an element type, a shape, and the elements in a typed array that starts on a page.
 *
 * deepring does not compute with tensors and has no class for them. This is the minimum to carry weights between a
 * file and a library that computes. Tensors of other libraries are accepted wherever a buffer is: see `TensorLike` in
 * view.ts.
 */

import { allocateBuffer } from './buffer.ts'
import { checkDtype, DTYPES, type DType, type DTypeViews } from './dtype.ts'
import type { EngineState } from '../core/engine-state.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { elementsOf } from './view.ts'

/**
 * A tensor in engine memory.
 *
 * It can be read into and written from like a buffer. Disposing it detaches `data` and returns the memory, as for
 * `EngineBuffer`.
 */
export interface Tensor<D extends DType = DType> {
  /** The element type, by its name in safetensors. */
  readonly dtype: D
  /** The extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[]
  /** The elements, row by row. */
  readonly data: DTypeViews[D]
  /** The size in bytes. */
  readonly byteLength: number
  /** Detaches `data` and returns the memory. */
  [Symbol.dispose](): void
}

/** Allocates a zeroed tensor. */
export function allocateTensorIn<D extends DType>(engine: EngineState, dtype: D, shape: readonly number[]): Tensor<D> {
  checkDtype(dtype)
  if (!Array.isArray(shape)) throw invalidType('shape', 'an array', shape)
  const { bytes, View } = DTYPES[dtype]
  const elements = elementsOf(shape, 'shape')
  const byteLength = elements * bytes
  if (byteLength > Number.MAX_SAFE_INTEGER) throw invalidValue('shape', 'It has more bytes than can be counted.', shape)
  const memory = allocateBuffer(engine, byteLength, true)
  const tensor = {
    dtype,
    shape: Object.freeze([...shape]) as readonly number[],
    data: new View(memory.buffer, memory.byteOffset, elements),
    byteLength,
    [Symbol.dispose]: () => memory[Symbol.dispose](),
  }
  return Object.freeze(tensor)
}
