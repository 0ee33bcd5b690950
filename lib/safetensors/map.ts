/** Tensors that were loaded together: {@link TensorMap}. */

import type { TensorReceipt } from '../core/tensors.ts'
import { BroughtMemory } from '../memory/brought.ts'
import { LentMemory } from '../memory/lease.ts'
import type { DType } from '../memory/dtype.ts'
import type { Rows, TensorInfo } from './info.ts'
import { bytesOfShape, shapeOf, type Slices } from './slices.ts'
import { FileTensor, type AnyTensor } from './tensor.ts'

/** What a load did. */
export interface LoadReceipt {
  /** Bytes of the tensors. */
  readonly bytes: number
  /** Bytes that were read beside them, to read neighbors together, and whole units of the device. */
  readonly overread: number
  /** Bytes that were copied, because position or address did not suit the device. */
  readonly bounced: number
  /** Tensors whose position in their file breaks the alignment of their elements: they were moved. */
  readonly realigned: number
  /** Whether everything was read past the page cache. */
  readonly direct: boolean
}

/** Where tensors lie in groups. */
export interface Places {
  /** The tensors, ascending. */
  readonly indices: Uint32Array
  readonly groupOf: Uint32Array
  readonly offsets: Float64Array
}

/** The tensor of a row, in lent memory. */
export function tensorOf(info: TensorInfo, slices: Slices, index: number, lent: LentMemory, offset: number): AnyTensor {
  const slice = slices.get(index)
  const shape = shapeOf(info, slice)
  return new FileTensor(
    info.name,
    info.dtype as DType,
    shape,
    lent,
    offset,
    bytesOfShape(info, shape, slice),
  ) as AnyTensor
}

/**
 * Tensors by name, in the order of their bytes. A tensor is made when it is asked for, and is the same each time. The memory
 * of all becomes `ArrayBuffer`s when the bytes of a tensor are first asked for.
 *
 * Disposing the map gives all memory back at once. Disposing its tensors does so group by group, when the last of a group is
 * disposed. Without either, the garbage collector does.
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
 * using tensors = await model.load()
 * for (const [name, { dtype, shape }] of tensors) console.log(name, dtype, shape)
 * console.log(tensors.get('layer.0.bias')?.data[0], tensors.receipt.realigned)
 * ```
 */
export class TensorMap implements ReadonlyMap<string, AnyTensor> {
  /** What the load did. */
  readonly receipt: LoadReceipt
  readonly #rows: Rows
  readonly #slices: Slices
  readonly #places: Places
  readonly #groups: readonly LentMemory[]
  /** All tensors, ascending; those with places, and those in memory of the caller. */
  readonly #indices: Uint32Array
  /** By index. */
  readonly #made: Map<number, AnyTensor>

  /** @internal */
  constructor(
    rows: Rows,
    slices: Slices,
    places: Places,
    groups: readonly LentMemory[],
    others: ReadonlyMap<number, AnyTensor>,
    receipt: TensorReceipt,
  ) {
    this.receipt = Object.freeze({ ...receipt })
    this.#rows = rows
    this.#slices = slices
    this.#places = places
    this.#groups = groups
    this.#made = new Map(others)
    this.#indices =
      others.size === 0
        ? places.indices
        : Uint32Array.from([...places.indices, ...others.keys()].toSorted((a, b) => a - b))
  }

  /** How many tensors there are. */
  get size(): number {
    return this.#indices.length
  }

  /** Whether there is a tensor of this name. */
  has(name: string): boolean {
    const index = this.#rows.find(name)
    return index >= 0 && placeOf(this.#indices, index) >= 0
  }

  /** The tensor of this name. */
  get(name: string): AnyTensor | undefined {
    const index = this.#rows.find(name)
    if (index < 0) return undefined
    return this.#made.get(index) ?? this.#make(index)
  }

  /** The names. */
  keys(): MapIterator<string> {
    return this.#rows.names(this.#indices.length === this.#rows.count ? undefined : this.#indices)
  }

  /** The tensors. */
  *values(): MapIterator<AnyTensor> {
    for (const [, tensor] of this.entries()) yield tensor
  }

  /** Names and tensors. */
  *entries(): MapIterator<[string, AnyTensor]> {
    let place = 0
    for (const info of this.#rows.each(this.#indices)) {
      const index = this.#indices[place] as number
      place += 1
      const tensor = this.#made.get(index) ?? this.#make(index, info)
      if (tensor !== undefined) yield [info.name, tensor]
    }
  }

  /** Calls a function with each tensor. */
  forEach(call: (tensor: AnyTensor, name: string, map: TensorMap) => void, receiver?: unknown): void {
    for (const [name, tensor] of this.entries()) Reflect.apply(call, receiver, [tensor, name, this])
  }

  /** Names and tensors. */
  [Symbol.iterator](): MapIterator<[string, AnyTensor]> {
    return this.entries()
  }

  /** Gives all memory back, and detaches every view of it. Memory of the caller stays. */
  [Symbol.dispose](): void {
    for (const group of this.#groups) group.recall()
  }

  #make(index: number, info?: TensorInfo): AnyTensor | undefined {
    const place = placeOf(this.#places.indices, index)
    if (place < 0) return undefined
    const group = this.#groups[this.#places.groupOf[place] as number] as LentMemory
    const offset = this.#places.offsets[place] as number
    const tensor = tensorOf(info ?? this.#rows.at(index), this.#slices, index, group, offset)
    this.#made.set(index, tensor)
    return tensor
  }
}

/** Where a number is in an ascending list; -1 if it is not there. */
function placeOf(list: Uint32Array, number: number): number {
  // Of a whole table, each is in its own place.
  if (list[number] === number) return number
  let [low, high] = [0, list.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((list[middle] as number) < number) low = middle + 1
    else high = middle
  }
  return list[low] === number ? low : -1
}

/** The groups of a load by their numbers in the binding, each with the number of its tensors. */
export function groupsOf(memories: Uint32Array, { groupOf }: Places): LentMemory[] {
  const shares = new Uint32Array(memories.length)
  for (const group of groupOf) shares[group] = (shares[group] as number) + 1
  return BroughtMemory.all(memories).map((memory, group) => new LentMemory(memory, shares[group] as number))
}
