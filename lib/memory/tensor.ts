/**
 * Tensors in engine memory: an element type, a shape, and the elements in a typed array that starts on a page.
 *
 * deepring does not compute with tensors and has no class for them. This is the minimum to carry weights between a
 * file and a library that computes. Tensors of other libraries are accepted wherever a buffer is: see `TensorLike` in
 * view.ts.
 */

import { inspect, type InspectOptions } from 'node:util'
import { allocateBuffer } from './buffer.ts'
import { bytesOfElements, checkDtype, elementsIn, typeOf, type DType, type DTypeViews } from './dtype.ts'
import type { EngineState } from '../core/engine-state.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { elementsOf } from './view.ts'

/**
 * A tensor in engine memory, which onnxruntime takes as it is: it has the properties of that library, too.
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
  /** `dtype` as onnxruntime and transformers.js call it, such as `'float32'`. */
  readonly type: string
  /** `shape` as they call it. */
  readonly dims: readonly number[]
  /** Where the elements are, in the words of onnxruntime. */
  readonly location: 'cpu'
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
  const extents: readonly number[] = Object.freeze([...shape])
  const tensor: Tensor<D> = {
    dtype,
    shape: extents,
    data: elementsIn(dtype, memory.buffer as ArrayBuffer, byteOffset, byteLength),
    type: typeOf(dtype),
    dims: extents,
    location: 'cpu',
    byteLength,
    [Symbol.dispose]: dispose,
  }
  Object.defineProperty(tensor, inspect.custom, { value: inspectSelf })
  return Object.freeze(tensor)
}

/** Elements of a tensor that `console.log` shows. */
const SHOWN = 6

function inspectSelf(this: Tensor, _depth: number, options: InspectOptions): string {
  const { dtype, shape, data, byteLength } = this
  return `Tensor ${inspect({ dtype, shape, byteLength, data }, { ...options, maxArrayLength: SHOWN })}`
}
