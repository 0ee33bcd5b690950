/**
 * Aborting: which values are signals, and what an aborted operation rejects with.
 *
 * As in node:fs, the rejection is an `AbortError` of its own, and the reason of the signal is its `cause`. So one check
 * recognizes it, whatever the reason is: `AbortSignal.timeout` has a `TimeoutError`, and a caller can give any value.
 */

import { invalidType } from './errors.ts'

/** What an aborted operation rejects with: see {@link SignalOptions}. */
export class AbortError extends Error {
  /** `ABORT_ERR`, as in Node. */
  readonly code = 'ABORT_ERR'
  declare readonly name: 'AbortError'

  /** @param signal - Its reason becomes the `cause`; polyfills without reasons leave it undefined. */
  constructor(signal: AbortSignal) {
    super('The operation was aborted', { cause: signal.reason })
  }
}

// On the prototype, so that the stack, which the constructor of Error makes, begins with it.
Object.defineProperty(AbortError.prototype, 'name', { value: 'AbortError', configurable: true, writable: true })

/**
 * An `AbortSignal`, or `null` if absent. Throws an {@link AbortError} if it is already aborted, before anything is
 * touched.
 *
 * By its shape, as in Node: the signals of jsdom, of a polyfill or of another context are of other classes.
 */
export function signalOf(value: unknown, name = 'options.signal'): AbortSignal | null {
  if (value === undefined) return null
  if (!isSignal(value)) throw invalidType(name, 'an instance of AbortSignal', value)
  throwIfAborted(value)
  return value
}

/** Throws an {@link AbortError} if the signal was aborted. */
export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted === true) throw new AbortError(signal)
}

/** A controller that is aborted with a signal of the caller, until it is unlinked. */
export interface Linked {
  readonly controller: AbortController
  unlink(): void
}

/** See {@link Linked}. */
export function linked(signal: AbortSignal | null): Linked {
  const controller = new AbortController()
  return { controller, unlink: onAbort(signal, () => controller.abort(signal?.reason)) }
}

/** Calls `abort` once if the signal is aborted, until what it returns is called. */
export function onAbort(signal: AbortSignal | null, abort: () => void): () => void {
  if (signal === null) return () => {}
  signal.addEventListener('abort', abort, { once: true })
  return () => signal.removeEventListener('abort', abort)
}

function isSignal(value: unknown): value is AbortSignal {
  if (typeof value !== 'object' || value === null || !('aborted' in value)) return false
  return typeof (value as { addEventListener?: unknown }).addEventListener === 'function'
}
