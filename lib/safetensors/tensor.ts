/** Tensors that were read from a file. */

import { inspect, type InspectOptions } from 'node:util'
import { quotedName, released, type DeepringError } from '../core/errors.ts'
import { DTYPES, elementsIn, typeOf, type DType, type DTypeViews } from '../memory/dtype.ts'
import { Lease, type LentMemory } from '../memory/lease.ts'
import type { Tensor } from '../memory/tensor.ts'

/**
 * A tensor that was read from a file, in engine memory that it can share with others. Every function that takes a buffer takes
 * it.
 *
 * Disposing it gives up its share of the memory, which goes back with the last share. `data` and `bytes` throw
 * `ERR_DEEPRING_RELEASED` from then on.
 *
 * @example
 * ```ts
 * import { openSafetensors, saveSafetensors } from 'deepring/safetensors'
 *
 * await saveSafetensors('model.safetensors', {
 *   'layer.0.weight': { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) },
 *   'layer.0.bias': { dtype: 'F32', shape: [1], data: new Float32Array([3]) },
 * })
 * await using model = await openSafetensors('model.safetensors')
 * const weight = await model.tensor('layer.0.weight')
 * console.log(weight.dtype, weight.shape, weight.data) // F32 [ 2 ] Float32Array(2) [ 1, 2 ]
 * weight[Symbol.dispose]()
 * ```
 */
export class FileTensor<D extends DType = DType> extends Lease implements Tensor<D> {
  /** Its name in the file. */
  readonly name: string
  /** The element type. At run time it can be a name that {@link DType} does not have: then `data` is bytes. */
  readonly dtype: D
  /** The extents, outermost first; of a slice, those of the slice. */
  readonly shape: readonly number[]
  /** The CRC-32C of the bytes, if asked for. */
  declare readonly checksum?: number
  #elements: { readonly of: Uint8Array; readonly data: DTypeViews[D] } | undefined

  /** @internal */
  constructor(name: string, dtype: D, shape: readonly number[], lent: LentMemory, offset: number, byteLength: number) {
    super(lent, offset, byteLength)
    this.name = name
    this.dtype = dtype
    this.shape = shape
  }

  /**
   * The elements, row by row.
   *
   * @throws `ERR_DEEPRING_RELEASED` once the memory has gone back.
   */
  get data(): DTypeViews[D] {
    const { bytes, dtype } = this
    if (this.#elements?.of !== bytes) {
      const data = Object.hasOwn(DTYPES, dtype)
        ? elementsIn(dtype, bytes.buffer, bytes.byteOffset, bytes.byteLength)
        : (bytes as DTypeViews[D])
      this.#elements = { of: bytes, data }
    }
    return this.#elements.data
  }

  /** `dtype` as onnxruntime and transformers.js call it, such as `'float32'`. */
  get type(): string {
    return typeOf(this.dtype)
  }

  /** `shape` as they call it. */
  get dims(): readonly number[] {
    return this.shape
  }

  /** Where the elements are, in the words of onnxruntime. */
  get location(): 'cpu' {
    return 'cpu'
  }

  protected override releasedError(): DeepringError {
    return released(`the tensor ${quotedName(this.name)}`, { tensor: this.name })
  }
}

// Not the elements: a look at them brings their memory to JavaScript.
Object.defineProperty(FileTensor.prototype, inspect.custom, {
  value(this: FileTensor, _depth: number, options: InspectOptions): string {
    const { name, dtype, shape, byteLength } = this
    return `FileTensor ${inspect({ name, dtype, shape, byteLength, released: this.released }, options)}`
  },
})

/** A tensor of any element type: a comparison of `dtype` tells the type of `data`. */
export type AnyTensor = { [D in DType]: FileTensor<D> }[DType]
