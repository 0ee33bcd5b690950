/**
 * The memory of one request: exactly which bytes the kernel can use.
 *
 * Any argument (a typed array of any kind, a `DataView`, a tensor) becomes one `Uint8Array` over exactly its bytes.
 * Memory that can move or vanish while the kernel uses it is refused: a resizable `ArrayBuffer`, and memory that is
 * already detached. A growable `SharedArrayBuffer` neither moves nor shrinks; of a view that grows with it, the length at
 * the time of the call counts. Detaching a buffer *later*, while a request uses it, cannot be prevented; the request then fails when it
 * finishes.
 */

import { isAnyArrayBuffer, isSharedArrayBuffer } from 'node:util/types'
import { isRetiring } from '../core/completions.ts'
import { bytesOfElements, dtypeOf } from './dtype.ts'
import { detached, invalidType, invalidValue, outOfRange } from '../core/errors.ts'
import { bytesOf } from '../core/options.ts'

/**
 * A tensor of any library: an element type under the name `dtype` or `type`, a shape under the name `shape` or `dims`,
 * and the elements, row by row without gaps, as `data`. The tensors of onnxruntime, transformers.js and deepring have
 * this form.
 */
export type TensorLike = Elements & (Shaped | Dimensioned)

/** @inline */
interface Elements {
  /** The element type, if not under `type`. */
  readonly dtype?: string | undefined
  /** The element type, if not under `dtype`. */
  readonly type?: string | undefined
  /**
   * The elements: the bytes that are read or written. An array, as other libraries have for strings, is accepted by the
   * compiler but refused by the call.
   */
  readonly data: ArrayBufferView | readonly unknown[]
}

/** @inline */
interface Shaped {
  /** The extents, outermost first. */
  readonly shape: readonly number[]
}

/** @inline */
interface Dimensioned {
  /** The extents, outermost first. */
  readonly dims: readonly number[]
}

/** What can be read into and written from: any view of memory, or a tensor. */
export type Bytes = ArrayBufferView | TensorLike

/** Properties of newer buffers. Node 20 has some of them; TypeScript's older libraries have none. */
interface BufferTraits {
  readonly resizable?: boolean
  readonly growable?: boolean
  readonly detached?: boolean
}

/**
 * The `length` bytes of `buffer` from `offset` on, as the `Uint8Array` that crosses to the binding.
 *
 * @param buffer - A view, or a tensor.
 * @param offset - Bytes to leave out at the front; absent: none.
 * @param length - Bytes to cover; absent: all from `offset` on.
 */
export function viewOf(buffer: unknown, offset: unknown, length: unknown): Uint8Array {
  const data = ArrayBuffer.isView(buffer) ? buffer : dataOf(buffer)
  const memory = data.buffer
  const traits = memory as BufferTraits
  if (traits.resizable === true) {
    throw invalidValue(
      'buffer',
      'Its memory is resizable, so it could vanish while the kernel writes to it. Use a fixed-length buffer.',
      data,
    )
  }
  if (isRetiring(memory)) throw goneBefore()
  if (data instanceof Uint8Array && offset === undefined && length === undefined && traits.growable !== true) {
    if (data.byteLength === 0 && isDetached(memory)) throw goneBefore()
    return data
  }
  if (isDetached(memory)) throw goneBefore()
  const size = data.byteLength
  const from = offset === undefined ? 0 : bytesOf(offset, 'options.offset')
  if (from > size) throw outOfRange('options.offset', `<= ${size}, the bytes of the buffer`, offset)
  const covered = length === undefined ? size - from : bytesOf(length, 'options.length')
  if (covered > size - from)
    throw outOfRange('options.length', `<= ${size - from}, the bytes of the buffer from offset ${from} on`, length)
  return new Uint8Array(memory, data.byteOffset + from, covered)
}

/** True if `memory` has been transferred away or released. */
export function isDetached(memory: ArrayBufferLike): boolean {
  const known = (memory as BufferTraits).detached
  if (known !== undefined) return known
  if (memory.byteLength > 0 || isSharedArrayBuffer(memory)) return false
  try {
    // Node 20 has no `detached`, but refuses a view of memory that is gone.
    return new Uint8Array(memory).byteLength > 0
  } catch {
    return true
  }
}

/** The elements of a tensor, after checking that its shape covers them. */
function dataOf(value: unknown): ArrayBufferView {
  if (typeof value !== 'object' || value === null || !('data' in value)) {
    const hint = isAnyArrayBuffer(value) ? ', such as new Uint8Array(it)' : ''
    throw invalidType('buffer', `a TypedArray${hint}, a DataView, or a tensor { dtype, shape, data }`, value)
  }
  const tensor = value as Elements & Partial<Shaped & Dimensioned>
  const { data } = tensor
  if (!ArrayBuffer.isView(data)) throw invalidType('buffer.data', 'a TypedArray or a DataView', data)
  const shape = tensor.shape ?? tensor.dims
  if (!Array.isArray(shape)) throw invalidType('buffer.shape', 'an array (or "dims" in its place)', shape)
  const named = tensor.dtype ?? tensor.type
  if (typeof named !== 'string') throw invalidType('buffer.dtype', 'of type string (or "type" in its place)', named)
  const dtype = dtypeOf(named)
  // Unknown types, such as onnxruntime's packed int4, are moved as plain bytes.
  if (dtype !== undefined) {
    const expected = bytesOfElements(dtype, elementsOf(shape, 'buffer.shape'))
    if (expected !== data.byteLength && !isDetached(data.buffer)) {
      throw invalidValue(
        'buffer.data',
        `A tensor of ${named} and shape [${shape.join(', ')}] has ${expected} bytes, but its data has ${data.byteLength}.`,
        data,
      )
    }
  }
  return data
}

/** The number of elements in a shape; 1 for the empty shape, a scalar. */
export function elementsOf(shape: readonly unknown[], name: string): number {
  let elements = 1
  for (const extent of shape) {
    if (typeof extent !== 'number' || !Number.isSafeInteger(extent) || extent < 0) {
      throw invalidValue(name, 'Every extent must be a whole number, 0 or more.', shape)
    }
    elements *= extent
    if (elements > Number.MAX_SAFE_INTEGER) throw invalidValue(name, 'It has more elements than can be counted.', shape)
  }
  return elements
}

function goneBefore(): Error {
  return detached('The buffer has been detached: its memory was transferred or disposed before the call')
}
