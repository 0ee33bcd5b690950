/** A tensor of a swap store in memory: {@link SwapLease}. */

import { inspect, type InspectOptions } from 'node:util'
import { invalidValue } from '../core/errors.ts'
import { booleanOf, optionsOf } from '../core/options.ts'
import type { SwapLeased } from '../core/swaps.ts'
import type { DType } from '../memory/dtype.ts'
import { LentMemory } from '../memory/lease.ts'
import { FileTensor } from '../safetensors/tensor.ts'
import { LeasedMemory } from './leased-memory.ts'

/** Options of {@link SwapLease.close}. */
export interface CloseLeaseOptions {
  /**
   * True: what the lease has is the newest version of the tensor from now on, and is written behind the program. False: what was
   * changed is forgotten. Default: true of a lease that can change its tensor, else false.
   */
  write?: boolean | undefined
}

const CLOSE_KEYS: ReadonlySet<string> = new Set(['write'])

/**
 * A tensor of a `SwapStore` in memory. It counts against the budget until it is closed or disposed, and stays as it is meanwhile:
 * a new version that comes in between is another one. Every function that takes a buffer takes it.
 *
 * Afterwards, `data` and `bytes` throw `ERR_DEEPRING_RELEASED`, and views that were taken out of it have length 0.
 *
 * Of a lease that only reads, do not change the bytes: the store and other leases have the same memory.
 *
 * @example
 * ```ts
 * import { openSwap } from 'deepring/swap'
 *
 * const store = await openSwap('swap', { memory: 1 << 20, create: true })
 * await store.put('scale', { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) })
 * const lease = await store.getMut('scale')
 * lease.bytes.fill(0)
 * lease[Symbol.dispose]() // forgets the zeros; `await lease.close()` would write them
 * const again = await store.get('scale')
 * console.log(again.data) // Float32Array(2) [ 1, 2 ]
 * await again.close()
 * await store.close()
 * ```
 */
export class SwapLease<D extends DType = DType> extends FileTensor<D> {
  /** Whether it can change its tensor: it came from `getMut` or `lease`. */
  readonly writable: boolean
  readonly #memory: LeasedMemory

  /** @internal */
  constructor(
    name: string,
    dtype: D,
    { lease, shape, bytes }: Omit<SwapLeased, 'dtype'>,
    writable: boolean,
    owner: object,
  ) {
    const memory = new LeasedMemory(lease, 'tensor', name, [bytes], owner)
    super(name, dtype, Object.freeze(shape), new LentMemory(memory, 1), 0, bytes)
    this.writable = writable
    this.#memory = memory
  }

  /**
   * Ends the lease, once requests on its memory have settled. To dispose it does the same without a write: so what a block with
   * `using` has changed before it fails is forgotten.
   *
   * @throws `ERR_DEEPRING_INVALID_ARG_VALUE` if it is to be written and only reads; `ERR_DEEPRING_DETACHED` if its memory was
   * transferred: then nothing is written; `ERR_DEEPRING_INVALID` if the store was closed meanwhile; the error of an earlier write of
   * the tensor that was not reported yet, and then this version is accepted all the same.
   */
  async close(options?: CloseLeaseOptions): Promise<void> {
    const given = optionsOf(options, CLOSE_KEYS)
    const write = booleanOf(given.write, 'options.write', this.writable)
    if (write && !this.writable) throw invalidValue('options.write', 'The lease only reads.', write)
    if (this.released) {
      if (given.write === true) throw this.releasedError()
      return
    }
    const ending = this.#memory.end(write)
    this[Symbol.dispose]()
    await ending
  }
}

// Not the elements: a look at them brings their memory to JavaScript.
Object.defineProperty(SwapLease.prototype, inspect.custom, {
  value(this: SwapLease, _depth: number, options: InspectOptions): string {
    const { name, dtype, shape, byteLength, writable, released } = this
    return `SwapLease ${inspect({ name, dtype, shape, byteLength, writable, released }, options)}`
  },
})

/** A lease of any element type: a comparison of `dtype` tells the type of `data`. */
export type AnySwapLease = { [D in DType]: SwapLease<D> }[DType]
