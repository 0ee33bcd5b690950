/**
 * Tensors in engine memory: an element type, a shape, and the elements in a typed array that starts on a page.
 *
 * deepring does not compute with tensors and has no class for them. This is the minimum to carry weights between a
 * file and a library that computes. Tensors of other libraries are accepted wherever a buffer is: see `TensorLike` in
 * view.ts.
 */

import { allocateBuffer } from './buffer.ts'
import { bytesOfElements, checkDtype, elementsIn, type DType, type DTypeViews } from './dtype.ts'
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

/** Allocates a tensor: zeroed, or with old bytes of this process. */
export function allocateTensorIn<D extends DType>(
  engine: EngineState,
  dtype: D,
  shape: readonly number[],
  zeroed = true,
): Tensor<D> {
  checkDtype(dtype)
  if (!Array.isArray(shape)) throw invalidType('shape', 'an array', shape)
  const elements = elementsOf(shape, 'shape')
  const byteLength = bytesOfElements(dtype, elements)
  if (byteLength > Number.MAX_SAFE_INTEGER) throw invalidValue('shape', 'It has more bytes than can be counted.', shape)
  if (!Number.isInteger(byteLength))
    throw invalidValue('shape', `Elements of ${dtype} are packed, and these do not fill whole bytes.`, shape)
  const memory = allocateBuffer(engine, byteLength, zeroed)
  return tensorIn(dtype, shape, memory, () => memory[Symbol.dispose]())
}

/** A tensor in memory of exactly its size, which suits its elements. */
export function tensorIn<D extends DType>(
  dtype: D,
  shape: readonly number[],
  memory: Uint8Array,
  dispose: () => void,
): Tensor<D> {
  const { byteLength, byteOffset } = memory
  const tensor = {
    dtype,
    shape: Object.freeze([...shape]) as readonly number[],
    data: elementsIn(dtype, memory.buffer as ArrayBuffer, byteOffset, byteLength),
    byteLength,
    [Symbol.dispose]: dispose,
  }
  return Object.freeze(tensor)
}
