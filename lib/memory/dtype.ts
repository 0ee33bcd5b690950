/**
 * Element types of tensors, by the names that safetensors files use.
 *
 * Other libraries call the same types `float32` or `int64` (onnxruntime, transformers.js): {@link dtypeOf} knows those
 * names too. A tensor of any other element type can be read and written as well, because a transfer moves bytes.
 */

import { invalidValue, invalidType } from '../core/errors.ts'

/**
 * The constructors of views that hold tensor data.
 *
 * @inline
 */
interface ViewConstructor<V> {
  /** Bytes of an element of the view. */
  readonly BYTES_PER_ELEMENT: number
  /** A view of `length` elements from `byteOffset` on, in bytes. */
  new (buffer: ArrayBuffer, byteOffset: number, length: number): V
}

/**
 * The view of F16 data: `Float16Array` where the runtime has it (Node 24 and later), else the bits in a `Uint16Array`.
 *
 * To find out, test `'Float16Array' in globalThis`.
 */
export type Float16Data = typeof globalThis extends { Float16Array: { prototype: infer T } }
  ? T | Uint16Array<ArrayBuffer>
  : Uint16Array<ArrayBuffer>

/**
 * The view for the data of each element type. Types that JavaScript cannot compute with are held as bits.
 */
export interface DTypeViews {
  /** IEEE 754 double precision. */
  F64: Float64Array<ArrayBuffer>
  /** IEEE 754 single precision. */
  F32: Float32Array<ArrayBuffer>
  /** IEEE 754 half precision. */
  F16: Float16Data
  /** bfloat16, as bits. */
  BF16: Uint16Array<ArrayBuffer>
  /** 8-bit float with 4 exponent and 3 mantissa bits, as bits. */
  F8_E4M3: Uint8Array<ArrayBuffer>
  /** 8-bit float with 5 exponent and 2 mantissa bits, as bits. */
  F8_E5M2: Uint8Array<ArrayBuffer>
  /** An exponent alone, a power of two, as bits. */
  F8_E8M0: Uint8Array<ArrayBuffer>
  /** As `F8_E4M3`, with another bias and without a negative zero, as bits. */
  F8_E4M3FNUZ: Uint8Array<ArrayBuffer>
  /** As `F8_E5M2`, with another bias, without infinities and a negative zero, as bits. */
  F8_E5M2FNUZ: Uint8Array<ArrayBuffer>
  /** 6-bit float with 2 exponent and 3 mantissa bits, packed: four in three bytes. */
  F6_E2M3: Uint8Array<ArrayBuffer>
  /** 6-bit float with 3 exponent and 2 mantissa bits, packed: four in three bytes. */
  F6_E3M2: Uint8Array<ArrayBuffer>
  /** 4-bit float with 2 exponent bits and 1 mantissa bit, packed: two in a byte. */
  F4: Uint8Array<ArrayBuffer>
  /** Complex numbers of single precision: the real part, then the imaginary one, of each. */
  C64: Float32Array<ArrayBuffer>
  /** Signed 64-bit integers. */
  I64: BigInt64Array<ArrayBuffer>
  /** Signed 32-bit integers. */
  I32: Int32Array<ArrayBuffer>
  /** Signed 16-bit integers. */
  I16: Int16Array<ArrayBuffer>
  /** Signed 8-bit integers. */
  I8: Int8Array<ArrayBuffer>
  /** Unsigned 64-bit integers. */
  U64: BigUint64Array<ArrayBuffer>
  /** Unsigned 32-bit integers. */
  U32: Uint32Array<ArrayBuffer>
  /** Unsigned 16-bit integers. */
  U16: Uint16Array<ArrayBuffer>
  /** Unsigned 8-bit integers. */
  U8: Uint8Array<ArrayBuffer>
  /** One byte per truth value: 0 or 1. */
  BOOL: Uint8Array<ArrayBuffer>
}

/** The name of an element type, as in safetensors. */
export type DType = keyof DTypeViews

/** One row of {@link DTYPES}. */
export interface DTypeInfo<D extends DType = DType> {
  /** Bits per element. Elements of fewer than 8 bits are packed, and must fill whole bytes together. */
  readonly bits: number
  /** Bytes per element, `bits / 8`: of packed elements, a fraction. */
  readonly bytes: number
  /** The typed array for these elements. Of packed ones it has bytes, of complex ones two numbers each. */
  readonly View: ViewConstructor<DTypeViews[D]>
}

// TypeScript's library of the oldest supported version does not know Float16Array; Node 20 and 22 do not have it.
const Float16 = (globalThis as { Float16Array?: unknown }).Float16Array ?? Uint16Array

/**
 * Bits and bytes per element, and typed array, of every element type.
 *
 * @example
 * ```ts
 * import { DTYPES } from 'deepring'
 *
 * console.log(DTYPES.BF16.bytes, DTYPES.F4.bits) // 2 4
 * console.log(DTYPES.F32.View === Float32Array) // true
 * ```
 */
export const DTYPES: { readonly [D in DType]: DTypeInfo<D> } = Object.freeze({
  F64: { bits: 64, bytes: 8, View: Float64Array },
  F32: { bits: 32, bytes: 4, View: Float32Array },
  F16: { bits: 16, bytes: 2, View: Float16 as unknown as ViewConstructor<Float16Data> },
  BF16: { bits: 16, bytes: 2, View: Uint16Array },
  F8_E4M3: { bits: 8, bytes: 1, View: Uint8Array },
  F8_E5M2: { bits: 8, bytes: 1, View: Uint8Array },
  F8_E8M0: { bits: 8, bytes: 1, View: Uint8Array },
  F8_E4M3FNUZ: { bits: 8, bytes: 1, View: Uint8Array },
  F8_E5M2FNUZ: { bits: 8, bytes: 1, View: Uint8Array },
  F6_E2M3: { bits: 6, bytes: 0.75, View: Uint8Array },
  F6_E3M2: { bits: 6, bytes: 0.75, View: Uint8Array },
  F4: { bits: 4, bytes: 0.5, View: Uint8Array },
  C64: { bits: 64, bytes: 8, View: Float32Array },
  I64: { bits: 64, bytes: 8, View: BigInt64Array },
  I32: { bits: 32, bytes: 4, View: Int32Array },
  I16: { bits: 16, bytes: 2, View: Int16Array },
  I8: { bits: 8, bytes: 1, View: Int8Array },
  U64: { bits: 64, bytes: 8, View: BigUint64Array },
  U32: { bits: 32, bytes: 4, View: Uint32Array },
  U16: { bits: 16, bytes: 2, View: Uint16Array },
  U8: { bits: 8, bytes: 1, View: Uint8Array },
  BOOL: { bits: 8, bytes: 1, View: Uint8Array },
})

/** What onnxruntime and transformers.js call the same types. */
const SYNONYMS: Readonly<Record<string, DType>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint64: 'U64',
  uint32: 'U32',
  uint16: 'U16',
  uint8: 'U8',
  bool: 'BOOL',
}

const NAMES_ELSEWHERE = new Map(Object.entries(SYNONYMS).map(([name, dtype]) => [dtype, name]))

/** What onnxruntime and transformers.js call an element type; those that they do not have keep their name. */
export function typeOf(dtype: DType): string {
  return NAMES_ELSEWHERE.get(dtype) ?? dtype
}

/** Element types by the name of their typed array, for tensors made from an example. */
const OF_VIEW: Readonly<Record<string, DType>> = {
  Float64Array: 'F64',
  Float32Array: 'F32',
  Float16Array: 'F16',
  BigInt64Array: 'I64',
  Int32Array: 'I32',
  Int16Array: 'I16',
  Int8Array: 'I8',
  BigUint64Array: 'U64',
  Uint32Array: 'U32',
  Uint16Array: 'U16',
  Uint8ClampedArray: 'U8',
  Uint8Array: 'U8',
  DataView: 'U8',
}

/** The element type that `name` stands for, here or in another library; `undefined` if it is none of ours. */
export function dtypeOf(name: unknown): DType | undefined {
  if (typeof name !== 'string') return undefined
  if (Object.hasOwn(DTYPES, name)) return name as DType
  return Object.hasOwn(SYNONYMS, name) ? SYNONYMS[name] : undefined
}

/** The element type of a view's elements. */
export function dtypeOfView(view: ArrayBufferView): DType {
  // The tag is that of the built-in class, also for derived classes: a Buffer has the tag of a Uint8Array.
  const tag = Object.prototype.toString.call(view).slice('[object '.length, -1)
  return OF_VIEW[tag] ?? 'U8'
}

/** Checks the name of an element type: safetensors' names only, so that there is one way to write each. */
export function checkDtype(value: unknown, name = 'dtype'): DType {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value)
  if (!Object.hasOwn(DTYPES, value))
    throw invalidValue(name, `It must be one of ${Object.keys(DTYPES).join(', ')}.`, value)
  return value as DType
}

/** The elements of a type in memory that begins at `byteOffset`, as the type's view. */
export function elementsIn<D extends DType>(
  dtype: D,
  memory: ArrayBuffer,
  byteOffset: number,
  byteLength: number,
): DTypeViews[D] {
  const { View } = DTYPES[dtype]
  return new View(memory, byteOffset, byteLength / View.BYTES_PER_ELEMENT)
}

/** The bytes of this many elements; a fraction if packed ones do not fill whole bytes. */
export function bytesOfElements(dtype: DType, elements: number): number {
  return (elements * DTYPES[dtype].bits) / 8
}
