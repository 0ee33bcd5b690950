// Ends by an uncaught error in the middle of requests: the process must end as the runtime ends such a process.

import { parameters, report } from './host.mjs'
import { startOverwriting } from './overwriting.mjs'

await startOverwriting(parameters)
setTimeout(() => {
  report({})
  if (parameters.reject) void Promise.reject(new Error('rejected on purpose'))
  else throw new Error('thrown on purpose')
}, parameters.afterMs)
