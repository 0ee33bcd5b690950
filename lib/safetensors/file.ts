/** A model in safetensors files: {@link SafetensorsFile}. */

import { brand } from '../core/brand.ts'
import { connect } from '../core/completions.ts'
import { textsOf } from './info.ts'
import { shownOf, TensorTable, tableStateOf } from './table.ts'

/**
 * A model in one safetensors file or several. Made by {@link openSafetensors}.
 *
 * @example
 * ```ts
 * import { openSafetensors, saveSafetensors } from 'deepring/safetensors'
 *
 * await saveSafetensors('model.safetensors', {
 *   'encoder.weight': { dtype: 'F32', shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) },
 *   'decoder.weight': { dtype: 'F32', shape: [2], data: new Float32Array([5, 6]) },
 * })
 * const model = await openSafetensors('model.safetensors')
 * for await (const tensor of model.stream(/^encoder/)) {
 *   console.log(tensor.name, tensor.shape, tensor.data) // encoder.weight [ 2, 2 ] Float32Array(4) [ 1, 2, 3, 4 ]
 * }
 * const row = await model.tensor('encoder.weight', { slice: [[1, 2]] })
 * console.log(row.data) // Float32Array(2) [ 3, 4 ]
 * await model.close()
 * ```
 */
export class SafetensorsFile extends TensorTable {
  #metadata: ReadonlyMap<string, string> | undefined
  #unindexed: readonly string[] | undefined
  #missing: readonly string[] | undefined

  /** What the headers say under `__metadata__`. Of several files, the first that has a key counts. */
  get metadata(): ReadonlyMap<string, string> {
    if (this.#metadata === undefined) {
      const texts = textsOf(connect().tableMetadata(this.#number))
      const pairs = Array.from({ length: texts.length / 2 }, (_, nth) => [texts[nth * 2], texts[nth * 2 + 1]])
      this.#metadata = new Map(pairs as [string, string][])
    }
    return this.#metadata
  }

  /** Tensors that the files have and an index does not give to them. They are not part of the model. */
  get unindexed(): readonly string[] {
    this.#unindexed ??= Object.freeze(textsOf(connect().tableStrays(this.#number, false)))
    return this.#unindexed
  }

  /** Tensors that an index names and their file does not have. Empty unless `strict` is false. */
  get missing(): readonly string[] {
    this.#missing ??= Object.freeze(textsOf(connect().tableStrays(this.#number, true)))
    return this.#missing
  }

  /** Bytes behind the last tensors, of all files. 0 unless `strict` is false. */
  get trailing(): number {
    return tableStateOf(this).opened.trailing
  }

  /** The same tensors, without what only safetensors files have. */
  table(): TensorTable {
    return this
  }

  get #number(): number {
    return tableStateOf(this).opened.table
  }
}

brand('SafetensorsFile', SafetensorsFile.prototype, shownOf)
