/** Some tensors of a table: chosen by pattern, by function or by name, before anything is read. */

import { connect } from '../core/completions.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { isRegExp } from 'node:util/types'
import type { Rows, TensorInfo } from './info.ts'

/** Which tensors: names, a pattern that a name must match somewhere, or a function that returns true for those wanted. */
export type Choice = RegExp | ((info: TensorInfo) => boolean) | Iterable<string>

let rowsIn: (selection: Selection) => Rows
let indicesIn: (selection: Selection) => Uint32Array
let isMade: (value: object) => value is Selection

/**
 * Some tensors of a table, made by its `select`. Making one reads nothing.
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
 * const weights = model.select(/weight$/)
 * console.log(weights.count, weights.bytes) // 1 8
 * ```
 */
export class Selection {
  /** How many tensors. */
  readonly count: number
  /** Bytes of all of them. */
  readonly bytes: number
  readonly #rows: Rows
  readonly #indices: Uint32Array

  /** @internal */
  constructor(rows: Rows, indices: Uint32Array, bytes: number) {
    this.#rows = rows
    this.#indices = indices
    this.count = indices.length
    this.bytes = bytes
    Object.freeze(this)
  }

  static {
    rowsIn = (selection) => selection.#rows
    indicesIn = (selection) => selection.#indices
    isMade = (value): value is Selection => #rows in value
  }
}

/** The tensors that a choice has, each once: in the order of names that are given, else in that of the table. */
export function select(rows: Rows, choice: unknown): Selection {
  const { indices, bytes } = connect().tableSelect(rows.number, Uint32Array.from(chosen(rows, choice)))
  return new Selection(rows, indices, bytes)
}

/** The indices of what a call is about; null: all of the table. */
export function indicesOf(rows: Rows, value: unknown, name = 'selection'): Uint32Array | null {
  if (value === undefined) return null
  if (typeof value !== 'object' || value === null || !isMade(value)) return indicesIn(select(rows, value))
  if (rowsIn(value) !== rows) throw invalidValue(name, 'It was made by another table.', value)
  return indicesIn(value)
}

function chosen(rows: Rows, choice: unknown): number[] {
  const indices: number[] = []
  let index = 0
  if (isRegExp(choice)) {
    // `search` neither reads nor moves the place that a global or sticky pattern keeps.
    for (const name of rows.names()) {
      if (name.search(choice) >= 0) indices.push(index)
      index += 1
    }
    return indices
  }
  if (typeof choice === 'function') {
    const wanted = choice as (info: TensorInfo) => unknown
    for (const info of rows.all()) {
      if (wanted(info) === true) indices.push(index)
      index += 1
    }
    return indices
  }
  if (typeof choice !== 'object' || choice === null || !(Symbol.iterator in choice)) {
    throw invalidType('selection', 'a RegExp, a function, an iterable of names, or made by select()', choice)
  }
  for (const name of choice as Iterable<unknown>) {
    if (typeof name !== 'string') throw invalidType('selection', 'an iterable of strings', name)
    indices.push(rows.indexOf(name))
  }
  return indices
}
