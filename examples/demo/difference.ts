/**
 * Compares two byte ranges and finds the first position where they differ.
 *
 * All data is compared with its source. A checksum would find chance errors, but not their
 * position.
 */

import { setImmediate } from 'node:timers/promises'

/** Bytes compared between two turns of the event loop: about two milliseconds of work. */
const WINDOW_BYTES = 16 * 2 ** 20

/**
 * The position of the first byte that differs, undefined if none does. `progress` receives the
 * bytes compared so far.
 */
export async function findDifference(
  expected: Uint8Array,
  actual: Uint8Array,
  progress: (bytes: number) => void = () => {},
): Promise<number | undefined> {
  const shorter = Math.min(expected.length, actual.length)
  for (let start = 0; start < shorter; start += WINDOW_BYTES) {
    const end = Math.min(start + WINDOW_BYTES, shorter)
    if (Buffer.compare(expected.subarray(start, end), actual.subarray(start, end)) !== 0) {
      let position = start
      while (expected[position] === actual[position]) position++
      return position
    }
    progress(end)
    if (end < shorter) await setImmediate()
  }
  // A range that ends early differs where it ends.
  return expected.length === actual.length ? undefined : shorter
}
