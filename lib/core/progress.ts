/**
 * Progress of a request that takes long, for a function of the caller: at most 20 times a second, and once at the end.
 */

import { performance } from 'node:perf_hooks'
import { clearInterval, setInterval } from 'node:timers'
import { cancel, connect } from './completions.ts'
import { invalidType } from './errors.ts'

/** How far an operation has come. */
export interface Progress {
  /** Bytes done. */
  readonly bytes: number
  /** Bytes in all. While that is not known, `Infinity`. */
  readonly total: number
}

/** What is called with the progress of an operation. If it throws, the operation is canceled, and rejects with its error. */
export type OnProgress = (progress: Progress) => void

/** The option of operations that report their progress. */
export interface ProgressOptions {
  /**
   * Called with the bytes that are done and with those of all, at most 20 times a second and once at the end. If it throws,
   * the operation rejects with its error.
   */
  onProgress?: OnProgress | undefined
}

/** Between two reports. */
const PAUSE_MS = 50

/** A function, or `undefined`. */
export function onProgressOf(value: unknown): OnProgress | undefined {
  if (value !== undefined && typeof value !== 'function')
    throw invalidType('options.onProgress', 'of type function', value)
  return value as OnProgress | undefined
}

const numbers = new Float64Array(2)

/**
 * Reports the progress of a request while it runs.
 *
 * @param current - Its number; of several that run one after the other, that of the one in progress.
 * @param running - Its promise.
 * @param total - The bytes of all, from the result: for the report of the end.
 * @param undo - What to do with a result that is not delivered, because the function has thrown.
 */
export async function reporting<T>(
  current: () => number,
  onProgress: OnProgress | undefined,
  running: Promise<T>,
  total: (result: T) => number,
  undo: (result: T) => unknown,
): Promise<T> {
  if (onProgress === undefined) return running
  let failed: { readonly error: unknown } | undefined
  let last = 0
  const look = (): void => {
    numbers.fill(0)
    connect().progress(current(), numbers)
    const [done = 0, all = 0] = numbers
    // The end is reported once, below.
    if (done <= last || done >= all) return
    last = done
    try {
      onProgress(Object.freeze({ bytes: done, total: all }))
    } catch (error) {
      failed = { error }
      clearInterval(timer)
      cancel([current()])
    }
  }
  const timer = setInterval(look, PAUSE_MS)
  let result: T
  try {
    result = await running
  } catch (error) {
    throw failed === undefined ? error : failed.error
  } finally {
    clearInterval(timer)
  }
  try {
    if (failed !== undefined) throw failed.error
    const all = total(result)
    onProgress(Object.freeze({ bytes: all, total: all }))
  } catch (error) {
    await undo(result)
    throw error
  }
  return result
}

/** Progress that this thread counts itself. */
export class Tally {
  readonly #onProgress: OnProgress | undefined
  readonly #total: number
  #bytes = 0
  #lastMs = 0

  /** @param total - Bytes in all. */
  constructor(onProgress: OnProgress | undefined, total: number) {
    this.#onProgress = onProgress
    this.#total = total
  }

  /** Bytes done. */
  get bytes(): number {
    return this.#bytes
  }

  /** Bytes are done. Throws what the function throws. */
  add(bytes: number): void {
    this.#bytes += bytes
    // The end is reported once, by `finish`.
    if (this.#onProgress === undefined || this.#bytes >= this.#total) return
    const now = performance.now()
    if (now - this.#lastMs < PAUSE_MS) return
    this.#lastMs = now
    this.#onProgress(Object.freeze({ bytes: this.#bytes, total: this.#total }))
  }

  /** Everything is done. Throws what the function throws. */
  finish(): void {
    this.#onProgress?.(Object.freeze({ bytes: this.#bytes, total: this.#bytes }))
  }
}
