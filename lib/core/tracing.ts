/**
 * Requests, for those who watch them: the channels `tracing:deepring:io:*` of node:diagnostics_channel, and `NODE_DEBUG=deepring`,
 * which prints what comes over these channels.
 *
 * Without a subscriber, a request asks once whether there is one, and pays nothing else.
 */

import * as diagnostics from 'node:diagnostics_channel'
import { performance } from 'node:perf_hooks'
import { debuglog, inspect } from 'node:util'
import type { Operation } from './operation.ts'

/** What subscribers of `tracingChannel('deepring:io')` get of a request. `result` and `error` are there at its end. */
export interface IoTrace {
  /** What it does, in the word that errors have as `syscall`: `read`, `write`, `open`, `fsync`, ... */
  readonly call: string
  /** The file, as the program named it. */
  readonly path: string | undefined
  /** Where in the file, in bytes; of a transfer. */
  readonly position: number | undefined
  /** Bytes of memory that it moves. */
  readonly bytes: number
  /** Transfers that it stands for: 1, or those of an `AioHandle` that are waited for together. */
  readonly requests: number
  /** What its promise resolves to. */
  result?: unknown
  /** What its promise rejects with. */
  error?: unknown
}

/** Bun and Deno do not have it in all versions. */
const channel =
  typeof diagnostics.tracingChannel === 'function'
    ? diagnostics.tracingChannel<IoTrace, IoTrace>('deepring:io')
    : undefined

/** Whether anybody watches. */
export function isTraced(): boolean {
  return channel?.hasSubscribers === true
}

/** The promise of a request, whose course is published. */
export function traced<T>(operation: Operation, promise: Promise<T>): Promise<T> {
  return channel === undefined ? promise : channel.tracePromise(() => promise, traceOf(operation))
}

/** What is told of a request. */
export function traceOf({ call, path, position, requested, rare }: Operation): IoTrace {
  const members = rare?.members
  const bytes = members?.reduce((sum, member) => sum + (member?.requested ?? 0), 0) ?? requested
  const held = rare?.holds?.reduce((sum, { byteLength }) => sum + byteLength, 0) ?? 0
  return { call, path, position: position ?? undefined, bytes: bytes + held, requests: members?.length ?? 1 }
}

const debug = debuglog('deepring')

/** Prints a line if `NODE_DEBUG` has the word `deepring`. */
export function log(message: string, ...values: readonly unknown[]): void {
  debug(message, ...values)
}

if (debug.enabled) {
  const began = new WeakMap<IoTrace, number>()
  channel?.subscribe({
    start: (trace) => void began.set(trace, performance.now()),
    end: () => {},
    asyncStart: () => {},
    asyncEnd: (trace) => debug('%s', lineOf(trace, performance.now() - (began.get(trace) ?? 0))),
    error: () => {},
  })
}

function lineOf({ call, path, position, bytes, error, result }: IoTrace, ms: number): string {
  const { receipt } = (result ?? {}) as { receipt?: object }
  const parts = [
    call,
    path === undefined ? '' : `'${path}'`,
    bytes === 0 ? '' : `${bytes} bytes`,
    position === undefined ? '' : `at ${position}`,
    `in ${ms.toFixed(3)} ms`,
    error === undefined ? '' : `failed: ${String(error)}`,
    receipt === undefined ? '' : inspect(receipt, { breakLength: Infinity }),
  ]
  return parts.filter((part) => part !== '').join(' ')
}
