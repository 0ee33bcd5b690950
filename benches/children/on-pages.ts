/** Copies of tensors that were loaded, each on a page of memory of its own, as a program that computes has them. */

import { allocate, type TensorLike } from '../../index.ts'
import type { TensorMap } from '../../lib/safetensors/index.ts'
import { PAGE_BYTES } from '../tiles.ts'

/** A tensor, and its bytes. */
export type MemoryTensor = TensorLike & { readonly bytes: Uint8Array }

const paged = ({ length }: Uint8Array): number => Math.ceil(length / PAGE_BYTES) * PAGE_BYTES

/** Copies tensors. Of each, less than a page is wasted. */
export function onPages(loaded: TensorMap): Map<string, MemoryTensor> {
  const list = [...loaded]
  const memory = allocate(list.reduce((sum, [, { bytes }]) => sum + paged(bytes), 0))
  const tensors = new Map<string, MemoryTensor>()
  let at = 0
  for (const [name, { dtype, shape, bytes }] of list) {
    const place = memory.subarray(at, at + bytes.length)
    place.set(bytes)
    tensors.set(name, { dtype, shape, data: place, bytes: place })
    at += paged(bytes)
  }
  return tensors
}
