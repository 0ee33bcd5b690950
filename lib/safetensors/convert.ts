/** Conversion of elements between floating-point types, by threads of the engine. */

import { signalOf } from '../core/abort.ts'
import { connect, detachedInFlight, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen } from '../core/engine-state.ts'
import { detached, DeepringError, invalidValue } from '../core/errors.ts'
import { optionsOf, wordOf, type SignalOptions } from '../core/options.ts'
import { Engine, engineStateOf } from '../engine/engine.ts'
import { bytesOfElements, dtypeOf, DTYPES, type DType } from '../memory/dtype.ts'
import { allocateTensorIn, tensorIn, type Tensor } from '../memory/tensor.ts'
import { elementsOf, viewOf, type Bytes, type TensorLike } from '../memory/view.ts'

/** What elements can be converted to. */
export type ConvertedDType = 'F32' | 'F16' | 'BF16'

/** Options of {@link convertTensor}. */
export interface ConvertOptions extends SignalOptions {
  /** Memory of exactly the size of the result. Default: engine memory. */
  into?: Bytes | undefined
}

const KEYS: ReadonlySet<string> = new Set(['into', 'signal'])

/** What elements can be converted from. */
export const CONVERTIBLE: ReadonlySet<string> = new Set<DType>([
  'F64',
  'F32',
  'F16',
  'BF16',
  'F8_E4M3',
  'F8_E5M2',
  'F8_E8M0',
  'F8_E4M3FNUZ',
  'F8_E5M2FNUZ',
])

/**
 * Converts the elements of a tensor: each becomes the nearest value of the other type, and of two that are equally near the one
 * whose last bit is 0. What is too large becomes an infinity. From F64, F32, F16, BF16 and all 8-bit floats.
 *
 * The memory of the tensor, and `into`, belong to the engine until the promise settles.
 *
 * @param tensor - A tensor of any library.
 * @param dtype - `'F32'`, `'F16'` or `'BF16'`. Narrower types need a scale, which only the model knows.
 * @throws `ERR_DEEPRING_INVALID_ARG_VALUE`, `ERR_DEEPRING_OVERLAP` if `into` shares bytes with the tensor,
 * `ERR_DEEPRING_DETACHED`, `ENOMEM`.
 *
 * @example
 * ```ts
 * import { convertTensor } from 'deepring/safetensors'
 *
 * const half = { dtype: 'BF16', shape: [2], data: new Uint16Array([0x3f80, 0xc000]) }
 * const { data } = await convertTensor(half, 'F32')
 * console.log(data) // Float32Array(2) [ 1, -2 ]
 * ```
 */
export async function convertTensor<D extends ConvertedDType>(
  tensor: TensorLike,
  dtype: D,
  options?: ConvertOptions,
): Promise<Tensor<D>> {
  const source = viewOf(tensor, undefined, undefined)
  const { dtype: named, type, shape, dims } = tensor as Partial<Record<'dtype' | 'type' | 'shape' | 'dims', unknown>>
  const from = dtypeOf(named ?? type)
  if (from === undefined || !CONVERTIBLE.has(from))
    throw invalidValue('tensor.dtype', `It must be one of ${[...CONVERTIBLE].join(', ')}.`, named ?? type)
  const to = wordOf(dtype, 'dtype', ['F32', 'F16', 'BF16']) as D
  const given = optionsOf(options, KEYS)
  const extents = (shape ?? dims) as readonly number[]
  const byteLength = bytesOfElements(to, elementsOf(extents, 'tensor.shape'))
  const own = given.into === undefined ? undefined : intoOf(given.into, to, byteLength, source)
  const signal = signalOf(given.signal)
  const engine = engineStateOf(Engine.default)
  checkOpen(engine, 'convert')
  const result = own === undefined ? allocateTensorIn(engine, to, extents, false) : tensorIn(to, extents, own, () => {})
  const target = viewOf(result.data, undefined, undefined)
  const finish = (operation: Operation): Tensor<D> => {
    if (source.byteLength !== operation.requested) throw detachedInFlight(operation, 'convert')
    if (target.byteLength !== byteLength)
      throw detached('The memory of "options.into" was detached during the conversion')
    return result
  }
  const operation = new Operation(nextId(), 'convert', finish, tensor, source, undefined)
  operation.extra.holds = [target]
  connect().convert(operation.id, engine.number, from, source, to, target)
  try {
    return await track<Tensor<D>>(operation, signal)
  } catch (error) {
    result[Symbol.dispose]()
    throw error
  }
}

function intoOf(value: Bytes, dtype: DType, byteLength: number, source: Uint8Array): Uint8Array {
  const view = viewOf(value, undefined, undefined)
  if (view.byteLength !== byteLength)
    throw invalidValue('options.into', `The result has ${byteLength} bytes, and the memory ${view.byteLength}.`, view)
  if (view.byteOffset % DTYPES[dtype].View.BYTES_PER_ELEMENT !== 0 && byteLength > 0)
    throw invalidValue('options.into', `Elements of ${dtype} must begin at a multiple of their size.`, view)
  const [start, end] = [view.byteOffset, view.byteOffset + byteLength]
  const apart =
    view.buffer !== source.buffer || end <= source.byteOffset || source.byteOffset + source.byteLength <= start
  if (!apart) throw new DeepringError('"options.into" shares bytes with the tensor', { code: 'ERR_DEEPRING_OVERLAP' })
  return view
}
