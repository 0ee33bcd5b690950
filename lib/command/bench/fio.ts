/** fio beside deepring: what the drive and the kernel reach when only speed matters. */

import { rmSync } from 'node:fs'
import { fioRegion } from '../../measure/fio.ts'
import { execute } from '../../measure/process.ts'
import type { Contender } from '../../measure/rounds.ts'
import type { Place } from './place.ts'
import type { Task } from './tasks.ts'

/** fio for a task, if it has something like it. */
export function fioContender(task: Task, place: Place, backend: string, signal: AbortSignal): Contender | undefined {
  const { name, fio } = task
  if (fio === undefined) return undefined
  const isNew = name === 'new' || name === 'sync'
  const writes = name === 'overwrite' || name === 'mixed'
  return {
    name: 'fio',
    configuration: fio.join(' '),
    run: async () => {
      const path = isNew ? place.fresh() : writes ? place.overwritten : place.read
      const words = [
        '--name=bench',
        '--thread',
        `--ioengine=${backend === 'uring' ? 'io_uring' : 'libaio'}`,
        `--direct=${place.direct ? 1 : 0}`,
        '--gtod_reduce=1',
        '--output-format=json',
        `--size=${place.bytes}`,
        `--filename=${path}`,
        ...(name === 'mixed' ? [`--io_size=${2 * place.bytes}`, '--end_fsync=1'] : []),
        ...fio,
      ]
      try {
        const region = fioRegion((await execute('fio', words, {}, signal)).stdout)
        if (region === undefined) throw new Error('fio failed')
        return { ...region, busySeconds: 0, peakBytes: 0 }
      } finally {
        if (isNew) rmSync(path, { force: true })
      }
    },
  }
}
