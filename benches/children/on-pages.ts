/** Copies of tensors that were loaded, each on a page of memory of its own, as a program that computes has them. */

import { PAGE_BYTES } from '../../lib/measure/positions.ts'
import { allocate, open, type TensorLike } from '../../index.ts'
import type { TensorMap } from '../../lib/safetensors/index.ts'
import { Meter } from '../../lib/measure/meter.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'

/** A tensor, and its bytes. */
export type MemoryTensor = TensorLike & { readonly bytes: Uint8Array }

const paged = ({ length }: Uint8Array): number => Math.ceil(length / PAGE_BYTES) * PAGE_BYTES

/** Tensors in memory. */
export interface OnPages {
  readonly tensors: Map<string, MemoryTensor>
  /** What they are in. */
  readonly memory: Uint8Array
}

/** Copies tensors. Of each, less than a page is wasted. */
export function onPages(loaded: TensorMap): OnPages {
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
  return { tensors, memory }
}

/** What saves are held against: one write of as many bytes of the same memory, and a flush. */
export async function writeRaw(to: string, bytes: Uint8Array): Promise<Outcome> {
  const meter = new Meter()
  await using handle = await open(to, 'w')
  await handle.write(bytes, { position: 0 })
  await handle.sync()
  return meter.stop(bytes.length, 1)
}
