// Says that it is in the middle of requests, and waits for a signal.

import { parameters, report } from './host.mjs'
import { startOverwriting } from './overwriting.mjs'

await startOverwriting(parameters)
report({})
