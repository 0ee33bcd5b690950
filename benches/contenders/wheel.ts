/**
 * The reference implementation as Python has it: `safetensors.numpy.load_file`. It takes part where a
 * `python3` has the packages `safetensors` and `numpy`: that of `npm run oracle`, or the system's.
 */

import { execute } from '../../lib/measure/process.ts'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Model } from '../models/model.ts'
import { ROOT } from '../native.ts'
import { parseOutcome } from '../../lib/measure/outcome.ts'
import type { BenchContext } from '../bench-context.ts'
import type { Contender, Entry } from '../../lib/measure/rounds.ts'

const NAME = 'safetensors in Python'

/** Loads all tensors; each is copied by the first access to its bytes, which is part of it. */
const PROGRAM = `
import json, os, resource, sys, time
from safetensors.numpy import load_file
def usage():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime, used.ru_stime
def busy():
    with open('/proc/stat') as stat:
        fields = [int(field) for field in stat.readline().split()[1:8]]
    return (sum(fields[:3]) + fields[5] + fields[6]) / os.sysconf('SC_CLK_TCK')
before, machine, started = usage(), busy(), time.perf_counter()
tensors = load_file(sys.argv[1])
wall, after, machine = time.perf_counter() - started, usage(), busy() - machine
print(json.dumps({
    'wallSeconds': wall, 'userSeconds': after[0] - before[0], 'systemSeconds': after[1] - before[1],
    'busySeconds': machine, 'peakBytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    'bytes': sum(tensor.nbytes for tensor in tensors.values()), 'operations': len(tensors), 'ran': 'mapped',
}))
`

/** Reads with the wheel, or the reason why that is not possible. */
export function wheel({ scratch }: BenchContext, model: Model): Entry {
  const own = join(ROOT, 'target/oracle/venv/bin/python')
  const python = existsSync(own) ? own : 'python3'
  const { error, status, stdout } = spawnSync(
    python,
    ['-c', 'import numpy, safetensors; print(safetensors.__version__)'],
    {
      encoding: 'utf8',
    },
  )
  if (error !== undefined) return { name: NAME, missing: `${NAME} is skipped: there is no python3` }
  if (status !== 0)
    return { name: NAME, missing: `${NAME} is skipped: python3 has no safetensors and numpy; npm run oracle gets them` }
  const contender: Contender = {
    name: NAME,
    configuration: `${model.label}, load_file of ${stdout.trim()}`,
    run: async () => {
      await scratch.evict(model.file)
      const { stdout: printed } = await execute(python, ['-c', PROGRAM, model.file])
      const outcome = parseOutcome(printed)
      if (outcome.bytes !== model.tensorBytes || outcome.operations !== model.count)
        throw new Error(`${NAME} loaded ${outcome.operations} tensors with ${outcome.bytes} bytes`)
      return outcome
    },
  }
  return contender
}
