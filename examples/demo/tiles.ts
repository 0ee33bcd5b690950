/**
 * A tensor of any size, made of real weights.
 *
 * Zeros would flatter: a drive or file system can compress or skip them, and bytes read from the
 * wrong place would look right. So the large tensor repeats all weights of the models, one tile
 * after the other, and every tile carries its own number in the low bits of one word per 512-byte
 * sector. No two tiles are equal in any sector. The weights are not a whole number of sectors long,
 * so no block appears twice at the same place in its tile either. The comparison detects any block
 * that is written to or read from the wrong place.
 */

import { setImmediate } from 'node:timers/promises'

/** The smallest unit a drive can misplace. */
const SECTOR_BYTES = 512

/**
 * The number of a tile is kept in 16 bits. With the demo's 15 MiB tiles that is a tensor of about a
 * terabyte.
 */
const TILES_MAX = 2 ** 16

/** Puts `parts` end to end: one tile. */
export function joinTile(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}

/**
 * Fills `target` tile by tile. `progress` receives the bytes filled so far. The event loop gets a
 * turn between two tiles.
 */
export async function fillWithTiles(
  target: Uint8Array,
  tile: Uint8Array,
  progress: (bytes: number) => void,
): Promise<void> {
  const tiles = Math.ceil(target.length / tile.length)
  if (tiles > TILES_MAX) throw new RangeError(`${tiles} tiles would not all be different; at most ${TILES_MAX} are`)
  for (let index = 0; index < tiles; index++) {
    const part = target.subarray(index * tile.length, (index + 1) * tile.length)
    part.set(tile.subarray(0, part.length))
    stamp(part, index)
    progress(index * tile.length + part.length)
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
