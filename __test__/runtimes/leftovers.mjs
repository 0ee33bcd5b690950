// What workers must not leave in their process: requests, threads, descriptors, engine memory.

import { stats } from 'deepring'
import { collectUntil, descriptors, ENGINE_THREADS_MAX, expect, threads, waitUntil } from './host.mjs'

const engines = () => threads('deepring-driver').length
const idle = () => stats().inFlight === 0 && stats().queued === 0

/** What the process has now, for a later comparison. */
export function footprint() {
  return { descriptors: descriptors(), engines: engines() }
}

/** Fails the program unless everything that was added after `before` is gone. */
export async function expectNothingLeft(before) {
  expect(await waitUntil(idle), `nothing is in flight: ${JSON.stringify(stats())}`)
  const gone = () => threads('deepring').length <= before.engines * ENGINE_THREADS_MAX && engines() === before.engines
  expect(await waitUntil(gone), `no thread is left of them: ${threads('deepring').map(({ name }) => name)}`)
  const closed = () => descriptors().length <= before.descriptors.length
  expect(await waitUntil(closed), `no descriptor is left: ${before.descriptors}; now ${descriptors()}`)
  expect(await collectUntil(() => stats().buffers === 0), `no memory is left: ${stats().buffers} pieces`)
}
