/** DeepNVMe's "locked tensors": memory of the engine, which the device reads and writes without a copy. */

import { isDetached, type Bytes, type TensorLike } from '../memory/view.ts'
import { connect } from '../core/completions.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'
import type { Engine } from '../engine/engine.ts'
import { releaseWhole } from '../memory/buffer.ts'
import { dtypeOf, dtypeOfView, type DType } from '../memory/dtype.ts'
import type { Tensor } from '../memory/tensor.ts'

/** Allocates a zeroed, one-dimensional tensor with the element type of `example`. */
export function allocateLike(engine: Engine, numElem: number | bigint, example: Bytes): Tensor {
  return engine.allocateTensor(dtypeOfExample(example), [bytesOf(numElem, 'numElem')])
}

/** Frees a whole piece of engine memory. False if it is not one, or was freed before. */
export function release(tensor: Bytes): boolean {
  return releaseWhole(memoryOf(tensor))
}

/** True if all bytes of a tensor lie in engine memory. */
export function isPinned(tensor: Bytes): boolean {
  const memory = memoryOf(tensor)
  if (isDetached(memory.buffer) || memory.byteLength === 0) return false
  return connect().isAllocated(new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength))
}

function memoryOf(tensor: Bytes): ArrayBufferView {
  const memory: unknown = ArrayBuffer.isView(tensor) ? tensor : (tensor as TensorLike | null | undefined)?.data
  if (!ArrayBuffer.isView(memory))
    throw invalidType('tensor', 'a TypedArray, a DataView, or a tensor { dtype, shape, data }', tensor)
  return memory
}

function dtypeOfExample(example: Bytes): DType {
  if (ArrayBuffer.isView(example)) return dtypeOfView(example)
  const tensor = example as TensorLike | null | undefined
  const name = tensor?.dtype ?? tensor?.type
  if (name === undefined)
    throw invalidType('example', 'a TypedArray, a DataView, or a tensor { dtype, shape, data }', example)
  const dtype = dtypeOf(name)
  if (dtype === undefined) throw invalidValue('example', 'Its element type has no name in safetensors.', name)
  return dtype
}
