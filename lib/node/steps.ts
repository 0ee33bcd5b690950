/**
 * Requests as steps: a generator that yields each call of node:fs and gets its answer.
 *
 * Whoever runs the steps decides how a call is made: with a callback, so that the event loop goes on, or at once, for the
 * functions of `deepring/aio` that block. So every request is written once.
 */

import fs from 'node:fs'

/** The functions of node:fs that requests use. Each has a form with a callback, and one that blocks. */
export type CallName =
  | 'chmod'
  | 'close'
  | 'fchmod'
  | 'fdatasync'
  | 'fstat'
  | 'fsync'
  | 'ftruncate'
  | 'futimes'
  | 'lstat'
  | 'open'
  | 'read'
  | 'readdir'
  | 'rename'
  | 'stat'
  | 'statfs'
  | 'unlink'
  | 'utimes'
  | 'write'

/** One call. */
export interface Call {
  readonly name: CallName
  readonly parameters: readonly unknown[]
}

/** What else a request can wait for: other requests. */
export class Wait {
  readonly until: Promise<unknown>

  constructor(until: Promise<unknown>) {
    this.until = until
  }
}

/** A request that ends with a `T`. It throws a {@link Failed}, an error of node:fs, or {@link CANCELED}. */
export type Steps<T> = Generator<Call | Wait, T, unknown>

/** Thrown into the steps of a request that was canceled, where its next call would be. */
export const CANCELED: unique symbol = Symbol('canceled')

/** Makes one call. `T` is what it answers. */
export function* call<T = void>(name: CallName, ...parameters: unknown[]): Steps<T> {
  return (yield { name, parameters }) as T
}

/** Waits for other requests. */
export function* wait(until: Promise<unknown>): Steps<void> {
  yield new Wait(until)
}

type Callback = (error: unknown, answer?: unknown) => void

/** Begins a call. What node:fs throws about its arguments comes to the callback, too. */
export function begin({ name, parameters }: Call, done: Callback): void {
  try {
    ;(fs[name] as (...all: unknown[]) => void)(...parameters, done)
  } catch (error) {
    process.nextTick(done, error)
  }
}

/** Makes a call, and blocks this thread. */
export function block({ name, parameters }: Call): unknown {
  return (fs[`${name}Sync`] as (...all: unknown[]) => unknown)(...parameters)
}
