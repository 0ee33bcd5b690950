/** Where a tuning works: a folder of its own with a file of random bytes, and memory. Both are gone at the end. */

import { mkdtempSync, rmSync } from 'node:fs'
import { freemem } from 'node:os'
import { join, resolve } from 'node:path'
import { allocate, open } from '../../../index.ts'
import { fillRandomly, STEP_BYTES, type Examined } from '../bench/place.ts'
import { memoryFor, PIECE_BYTES, type Ground } from './stream.ts'

/** The largest window that is tried: an engine has no larger one by default. */
export const WINDOW_BYTES_MAX: number = 256 << 20

/** Of the memory that is free, so much is taken at most. */
const MEMORY_SHARE = 1 / 4

/** Memory that is taken in any case: the smallest windows need it. */
const MEMORY_MIN = 64 << 20

/** The file has so many bytes in any case, if there is room: less would fit into the cache of most drives. */
const FILE_MIN = 64 << 20

/** See the module. */
export interface OwnGround extends Ground, AsyncDisposable {
  /** A folder in which nothing else is made. */
  readonly folder: string
}

/** Makes the file, of as many bytes as are written before `deadlineMs` (of `performance.now`). */
export async function openGround(
  { parent, bytes: wanted }: Examined,
  deadlineMs: number,
  signal: AbortSignal,
  showProgress: (bytes: number, total: number) => void,
): Promise<OwnGround> {
  const folder = mkdtempSync(join(resolve(parent), 'deepring-tune-'))
  try {
    const share = Math.floor((freemem() * MEMORY_SHARE) / STEP_BYTES) * STEP_BYTES
    const memory = allocate(Math.max(MEMORY_MIN, Math.min(memoryFor(WINDOW_BYTES_MAX), share)))
    fillRandomly(memory.subarray(0, MEMORY_MIN))
    // Random bytes again and again, each time from another place on, so that no two pieces are equal for a while.
    for (let at = MEMORY_MIN; at < memory.length; at += MEMORY_MIN)
      memory.copyWithin(at, at / MEMORY_MIN, Math.min(MEMORY_MIN, at / MEMORY_MIN + memory.length - at))
    const path = join(folder, 'file')
    let bytes = 0
    await using file = await open(path, 'wx', { signal })
    const lane = async (view: Uint8Array): Promise<void> => {
      while (bytes < wanted && (bytes < FILE_MIN || performance.now() < deadlineMs)) {
        const position = bytes
        bytes += STEP_BYTES
        await file.write(view, { position, signal })
        showProgress(bytes, wanted)
      }
    }
    const views = Array.from({ length: MEMORY_MIN / STEP_BYTES }, (_, nth) =>
      memory.subarray(nth * STEP_BYTES, (nth + 1) * STEP_BYTES),
    )
    await Promise.all(views.map(lane))
    await file.sync()
    return {
      folder,
      path,
      bytes: bytes - (bytes % PIECE_BYTES),
      memory,
      signal,
      [Symbol.asyncDispose]: async () => {
        memory[Symbol.dispose]()
        rmSync(folder, { recursive: true, force: true })
      },
    }
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
}
