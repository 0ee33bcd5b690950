// Ends by process.exit in the middle of requests: the process must end at once, with that status.

import process from 'node:process'
import { parameters, report } from './host.mjs'
import { startOverwriting } from './overwriting.mjs'

await startOverwriting(parameters)
setTimeout(() => {
  report({})
  process.exit(7)
}, parameters.afterMs)
