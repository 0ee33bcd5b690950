/** Work on a large range in parts, so that its progress can be reported: {@link inParts}. */

import { linked } from './abort.ts'
import type { Tally } from './progress.ts'

/** Bytes of a part: a few blocks of the engine, so that the parts cost no speed. */
export const PART_BYTES: number = 32 << 20

/** Parts at once: as many as a device has in flight at most. */
const PARTS_MAX = 8

/**
 * Calls `work` for each part of `bytes`, several at once. If one fails, the others are canceled, and it returns when all have
 * ended.
 *
 * @param limits - Parts at once, and bytes of each.
 */
export async function inParts(
  bytes: number,
  signal: AbortSignal | null,
  tally: Tally,
  work: (from: number, length: number, signal: AbortSignal) => Promise<unknown>,
  { atOnce = PARTS_MAX, partBytes = PART_BYTES }: { readonly atOnce?: number; readonly partBytes?: number } = {},
): Promise<void> {
  let next = 0
  await inLanes(atOnce, signal, async (stop) => {
    while (next < bytes) {
      const from = next
      const length = Math.min(partBytes, bytes - from)
      next += length
      await work(from, length, stop)
      tally.add(length)
    }
  })
}

/** Runs several of `lane` at once. If one fails, the others are canceled, and it returns when all have ended. */
export async function inLanes(
  count: number,
  signal: AbortSignal | null,
  lane: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { controller, unlink } = linked(signal)
  const lanes = Array.from({ length: count }, () => lane(controller.signal))
  try {
    await Promise.all(lanes)
  } catch (error) {
    controller.abort()
    await Promise.allSettled(lanes)
    throw error
  } finally {
    unlink()
  }
}
