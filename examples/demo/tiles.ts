/**
 * A model of any size, made of real weights.
 *
 * Zeros would flatter: a drive or file system can compress or skip them, and bytes read from the
 * wrong place would look right. So every tensor of the model repeats a weight, one tile after the other, as models that stack
 * their layers or experts do, and every tile carries its own number in the low bits of one word per 512-byte
 * sector. No two tiles of a tensor are equal in any sector. The comparison detects any block
 * that is written to or read from the wrong place.
 */

import { setImmediate } from 'node:timers/promises'
import { allocateUnsafe, type DType } from '../../index.ts'
import type { Model } from './models.ts'

/** The smallest unit a drive can misplace. */
const SECTOR_BYTES = 512

/**
 * The number of a tile is kept in 16 bits. With the demo's 15 MiB of weights that is a model of about a
 * terabyte.
 */
const TILES_MAX = 2 ** 16

/** Bytes filled between two turns of the event loop: about a millisecond of work. */
const TURN_BYTES = 4 * 2 ** 20

/** Tensors of a source begin at multiples of this, so that they suit every element type. */
const ALIGNMENT_BYTES = 64

/** A tensor of the model, in the memory that it is made in. */
export interface SourceTensor {
  name: string
  dtype: DType
  shape: number[]
  data: Uint8Array
}

/** The tensors of a model that has each weight `copies` times, in memory that they share. It is not filled. */
export function tensorsOf(models: readonly Model[], copies: number): { tensors: SourceTensor[]; bytes: number } {
  const weights = models.flatMap(({ name, weights: own }) => own.map((weight) => ({ model: name, ...weight })))
  const memory = allocateUnsafe(weights.reduce((sum, { data }) => sum + placed(data.length * copies), 0))
  let position = 0
  let bytes = 0
  const tensors = weights.map(({ model, name, dtype, shape, data }): SourceTensor => {
    const length = data.length * copies
    const tensor = {
      name: `${model}.${name}`,
      dtype,
      shape: [copies, ...shape],
      data: memory.subarray(position, position + length),
    }
    position += placed(length)
    bytes += length
    return tensor
  })
  return { tensors, bytes }
}

/** The bytes that a tensor of this many takes in a source. */
function placed(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES
}

/**
 * Fills `target` tile by tile. `progress` receives the bytes filled so far. The event loop gets turns.
 */
export async function fillWithTiles(
  target: Uint8Array,
  tile: Uint8Array,
  progress: (bytes: number) => void,
): Promise<void> {
  const tiles = tile.length === 0 ? 0 : Math.ceil(target.length / tile.length)
  if (tiles > TILES_MAX) throw new RangeError(`${tiles} tiles would not all be different; at most ${TILES_MAX} are`)
  let turn = TURN_BYTES
  for (let index = 0; index < tiles; index++) {
    const part = target.subarray(index * tile.length, (index + 1) * tile.length)
    part.set(tile.subarray(0, part.length))
    stamp(part, index)
    const filled = index * tile.length + part.length
    progress(filled)
    if (filled < turn) continue
    turn = filled + TURN_BYTES
    await setImmediate()
  }
}

/**
 * In a little-endian float the first two bytes are the end of the mantissa: the values stay those
 * of plausible weights.
 */
function stamp(part: Uint8Array, index: number): void {
  for (let at = 0; at + 1 < part.length; at += SECTOR_BYTES) {
    part[at]! ^= index & 0xff
    part[at + 1]! ^= index >> 8
  }
}
