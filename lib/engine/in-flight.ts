/** What this thread waits for: {@link inFlight}. */

import { performance } from 'node:perf_hooks'
import { operationsInFlight } from '../core/completions.ts'
import { traceOf, type IoTrace } from '../core/tracing.ts'

/** A request that has not settled. */
export interface InFlight extends Omit<IoTrace, 'result' | 'error'> {
  /** Milliseconds since it was made. */
  readonly ageMs: number
}

/**
 * The requests of this thread that have not settled, on all engines, the oldest first: where a program hangs. Other threads have
 * their own. It looks at every request, so do not call it for each.
 *
 * @example
 * ```ts
 * import { inFlight, open } from 'deepring'
 *
 * const file = await open('weights.bin')
 * const reading = file.read(new Uint8Array(500), { position: 100 })
 * const [{ call, path, position, bytes } = {}] = inFlight()
 * console.log(call, path, position, bytes) // read weights.bin 100 500
 * await reading
 * await file.close()
 * ```
 */
export function inFlight(): InFlight[] {
  const nowMs = performance.now()
  return operationsInFlight().map((operation) =>
    Object.assign(traceOf(operation), { ageMs: Math.max(0, nowMs - operation.startedMs) }),
  )
}
