/**
 * Pictures of the ten digits, made from a seed: strokes three times the size of a font of 5 by 7 dots, moved about, and unevenly dark.
 *
 * A batch has each digit once. The batches repeat, so that a training of few steps sees each of them more than once.
 */

import { random } from './random.ts'

/** Rows and columns of a picture. */
const SIDE = 32
export const PIXELS: number = SIDE * SIDE
export const DIGITS = 10
/** Different batches. */
const BATCHES = 2

const FONT_COLUMNS = 5
const FONT_ROWS = 7
const SCALE = 3
/** How much darker than full a dot can be. */
const SHADE = 0.4

/** A row of five dots is five bits. */
const FONT: readonly (readonly number[])[] = [
  [14, 17, 19, 21, 25, 17, 14],
  [4, 12, 4, 4, 4, 4, 14],
  [14, 17, 1, 2, 4, 8, 31],
  [31, 2, 4, 2, 1, 17, 14],
  [2, 6, 10, 18, 31, 2, 2],
  [31, 16, 30, 1, 1, 17, 14],
  [6, 8, 16, 30, 17, 17, 14],
  [31, 1, 2, 4, 8, 8, 8],
  [14, 17, 17, 14, 17, 17, 14],
  [14, 17, 17, 15, 1, 2, 12],
]

/** The pixels of a picture that are not empty: where they are, and what they have. */
export interface Picture {
  readonly places: Int32Array
  readonly values: Float32Array
}

/** The pictures of a step, one of each digit in their order. Always the same for a seed. */
export function batchOf(step: number, seed: number): Picture[] {
  const next = random(seed + (step % BATCHES))
  return FONT.map((rows) => {
    const left = Math.floor(next() * (SIDE - SCALE * FONT_COLUMNS + 1))
    const top = Math.floor(next() * (SIDE - SCALE * FONT_ROWS + 1))
    const places: number[] = []
    for (let y = 0; y < SCALE * FONT_ROWS; y++)
      for (let x = 0; x < SCALE * FONT_COLUMNS; x++) {
        const dots = rows[Math.floor(y / SCALE)]!
        const dot = FONT_COLUMNS - 1 - Math.floor(x / SCALE)
        if ((dots >> dot) % 2 === 1) places.push((top + y) * SIDE + left + x)
      }
    return { places: Int32Array.from(places), values: Float32Array.from(places, () => 1 - next() * SHADE) }
  })
}
