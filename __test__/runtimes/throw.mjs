// Ends by an error that nobody catches, in the middle of requests: the process must end as the runtime lets such a process end.

import { parameters, tell } from './host.mjs'
import { startOverwriting } from './overwriting.mjs'

await startOverwriting(parameters)
setTimeout(() => {
  tell({})
  if (parameters.reject) void Promise.reject(new Error('rejected on purpose'))
  else throw new Error('thrown on purpose')
}, parameters.afterMs)
