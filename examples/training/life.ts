/** A process of a training, from its start to its end or death: {@link live}. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Workspace } from '../demo/workspace.ts'
import type { Report, Task } from './task.ts'

const CHILD = join(import.meta.dirname, 'child.ts')

/** Runs a process to its end. Returns whether it was killed. Throws if it failed, or if `hear` throws: then it is killed. */
export async function live(workspace: Workspace, task: Task, hear: (report: Report) => void): Promise<boolean> {
  const child = fork(CHILD, [JSON.stringify(task)])
  workspace.endWithProcess(child)
  let failure: Error | undefined
  child.on('message', (report: Report) => {
    if (failure !== undefined) return
    try {
      if (report.kind === 'failed') throw new Error(`a process failed: ${report.why}`)
      hear(report)
    } catch (error) {
      failure = error as Error
      child.kill('SIGKILL')
    }
  })
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  if (failure !== undefined) throw failure
  if (signal !== 'SIGKILL' && code !== 0) throw new Error(`a process ended with ${signal ?? `code ${code}`}`)
  return signal === 'SIGKILL'
}
