/** Calls the garbage collector, for tests of unreachable objects. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pause } from './harness.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/** Collects until `done()` is true; returns false after this number of rounds of 10 ms. */
export async function collectUntil(done: () => boolean, rounds = 300): Promise<boolean> {
  for (let i = 0; i < rounds; i += 1) {
    gc()
    // Finalizers run in separate tasks.
    await pause(10)
    if (done()) return true
  }
  return false
}
