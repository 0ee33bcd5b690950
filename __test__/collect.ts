/** The garbage collector, called by hand: for tests of what happens to things that nobody holds any more. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pause } from './ground.ts'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/** Collects until `done()` holds; gives up, with false, after so many rounds of 10 ms. */
export async function collectUntil(done: () => boolean, rounds = 300): Promise<boolean> {
  for (let i = 0; i < rounds; i += 1) {
    gc()
    // Finalizers run in tasks of their own.
    await pause(10)
    if (done()) return true
  }
  return false
}
