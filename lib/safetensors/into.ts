/** Memory of the caller that tensors are read into: checked before anything is read. */

import { DeepringError, invalidType, invalidValue, quotedName } from '../core/errors.ts'
import { DTYPES, type DType } from '../memory/dtype.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import type { Rows } from './info.ts'
import { bytesOfShape, shapeOf, type Slices } from './slices.ts'

/** Views by the indices of their tensors. */
export type Destinations = ReadonlyMap<number, Uint8Array>

/** The views of a call, by the names of their tensors. Only tensors of the call can have one; null: all tensors. */
export function destinationsOf(
  rows: Rows,
  value: unknown,
  indices: Uint32Array | null,
  slices: Slices,
  name = 'options.into',
): Destinations {
  const found = new Map<number, Uint8Array>()
  if (value === undefined) return found
  const { entries } = (value ?? {}) as Partial<ReadonlyMap<unknown, unknown>>
  if (typeof entries !== 'function') throw invalidType(name, 'a Map from names to views', value)
  const chosen = indices === null ? undefined : new Set(indices)
  for (const [tensor, view] of (value as ReadonlyMap<unknown, unknown>).entries()) {
    if (typeof tensor !== 'string') throw invalidType(name, 'a Map from names to views', tensor)
    const index = rows.indexOf(tensor)
    if (chosen?.has(index) === false)
      throw new DeepringError(`The tensor ${quotedName(tensor)} is not in the selection`, {
        code: 'ERR_DEEPRING_NOT_FOUND',
        tensor,
      })
    found.set(index, destinationOf(rows, index, view, slices, `${name}.get(${quotedName(tensor)})`))
  }
  checkApart([...found.values()], name)
  return found
}

/** The view for one tensor. */
export function destinationOf(
  rows: Rows,
  index: number,
  value: unknown,
  slices: Slices,
  name = 'options.into',
): Uint8Array {
  const view = viewOf(value as Bytes, undefined, undefined)
  const info = rows.at(index)
  const slice = slices.get(index)
  const bytes = bytesOfShape(info, shapeOf(info, slice), slice)
  if (view.byteLength !== bytes)
    throw invalidValue(name, `The tensor has ${bytes} bytes, and the memory ${view.byteLength}.`, view)
  const unit = Object.hasOwn(DTYPES, info.dtype) ? DTYPES[info.dtype as DType].View.BYTES_PER_ELEMENT : 1
  if (bytes > 0 && view.byteOffset % unit !== 0)
    throw invalidValue(
      name,
      `Elements of ${info.dtype} must begin at a multiple of ${unit} in their ArrayBuffer.`,
      view,
    )
  return view.byteLength === view.buffer.byteLength ? view : new Uint8Array(view.buffer, view.byteOffset, bytes)
}

/** Refuses views that have bytes in common. */
function checkApart(views: readonly Uint8Array[], name: string): void {
  const byBuffer = new Map<ArrayBufferLike, Uint8Array[]>()
  for (const view of views) {
    if (view.byteLength === 0) continue
    const others = byBuffer.get(view.buffer)
    if (others === undefined) byBuffer.set(view.buffer, [view])
    else others.push(view)
  }
  for (const inOne of byBuffer.values()) {
    inOne.sort((a, b) => a.byteOffset - b.byteOffset)
    for (const [nth, view] of inOne.entries()) {
      const before = inOne[nth - 1]
      if (before !== undefined && before.byteOffset + before.byteLength > view.byteOffset)
        throw new DeepringError(`Two views of "${name}" have bytes in common`, { code: 'ERR_DEEPRING_OVERLAP' })
    }
  }
}
