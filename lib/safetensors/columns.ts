/** Tensors as they cross to the binding: columns rather than objects. */

import { Buffer } from 'node:buffer'
import { invalidType, invalidValue } from '../core/errors.ts'
import type { TensorColumns } from '../core/tensors.ts'
import { elementsOf } from '../memory/view.ts'

/** A tensor by name, type and shape. */
export interface Declaration {
  /** A name that no other tensor of the file has. */
  name: string
  /** The element type, by its name in safetensors. */
  dtype: string
  /** The extents, outermost first; empty for a scalar. */
  shape: readonly number[]
}

/** The columns of a list. */
export function columnsOf(list: readonly Declaration[], argument: string): TensorColumns {
  const names: string[] = []
  const nameBytes = new Uint32Array(list.length)
  const numbers = new Map<string, number>()
  const dtypeOf = new Uint32Array(list.length)
  const ranks = new Uint32Array(list.length)
  const extents: number[] = []
  for (const [nth, row] of list.entries()) {
    if (typeof row !== 'object' || row === null) throw invalidType(`${argument}[${nth}]`, 'an object', row)
    const { name, dtype, shape } = row
    names.push(checkTensorName(name, `${argument}[${nth}].name`))
    nameBytes[nth] = Buffer.byteLength(name)
    if (typeof dtype !== 'string') throw invalidType(`${argument}[${nth}].dtype`, 'of type string', dtype)
    const number = numbers.get(dtype) ?? numbers.size
    numbers.set(dtype, number)
    dtypeOf[nth] = number
    if (!Array.isArray(shape)) throw invalidType(`${argument}[${nth}].shape`, 'an array', shape)
    elementsOf(shape, `${argument}[${nth}].shape`)
    ranks[nth] = shape.length
    extents.push(...shape)
  }
  return {
    names: names.join(''),
    nameBytes,
    dtypes: [...numbers.keys()],
    dtypeOf,
    ranks,
    extents: Float64Array.from(extents),
  }
}

/** A name that can be written as UTF-8. */
export function checkTensorName(name: unknown, argument: string): string {
  if (typeof name !== 'string') throw invalidType(argument, 'of type string', name)
  if (/\p{Surrogate}/u.test(name)) throw invalidValue(argument, 'It is not well-formed Unicode.', name)
  return name
}
