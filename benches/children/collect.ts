/** What a process has thrown away is collected when its measured region begins, not within it. */

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

setFlagsFromString('--expose-gc')

/** Collects all garbage of this process. */
export const collect = runInNewContext('gc') as () => void
