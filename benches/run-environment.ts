/**
 * The environment of a run: everything around the measured process, the same for every contender.
 *
 * Before a run there is a fresh folder if it creates files and an unused seed if it writes. The
 * file system is flushed, and the run's files leave the page cache. After a contender's first run
 * that writes, the disk is read back and compared with what should be there. After each run its new
 * files are removed. None of this is inside a timed region.
 */

import { join } from 'node:path'
import type { Outcome } from '../lib/measure/outcome.ts'
import { READ_SEED, type Tensors } from './scratch.ts'
import type { BenchContext } from './bench-context.ts'
import type { Task } from './task.ts'

/** Where the bytes of one run go or come from, and how to recognize them. */
export interface RunTarget {
  /** The large file, or the folder of the small ones. */
  readonly path: string
  /** The seed of the bytes in it. */
  readonly seed: number
}

/** Runs one measured process over its target. */
export type MeasuredRun = (target: RunTarget) => Promise<Outcome>

/** Prepares a run, runs it and cleans up. */
export type RunEnvironment = (run: MeasuredRun) => Promise<Outcome>

/** The environment for the one large file. */
export function fileEnvironment(context: BenchContext, task: Task, file: string, verifies = true): RunEnvironment {
  const verify = (target: RunTarget) =>
    context.native.run('verify', {
      many: 'no',
      file: target.path,
      bytes: context.bytes,
      seed: target.seed,
      source: context.scratch.source,
    })
  return environment(context, task, file, (folder) => join(folder, 'file'), verifies ? verify : null)
}

/** The environment for the small files. */
export function tensorEnvironment(context: BenchContext, task: Task, tensors: Tensors): RunEnvironment {
  const verify = (target: RunTarget) =>
    context.native.run('verify', {
      many: 'yes',
      folder: target.path,
      list: tensors.list,
      seed: target.seed,
      source: context.scratch.source,
    })
  return environment(context, task, tensors.folder, (folder) => folder, verify)
}

function environment(
  context: BenchContext,
  task: Task,
  prepared: string,
  inside: (folder: string) => string,
  verify: ((target: RunTarget) => Promise<unknown>) | null,
): RunEnvironment {
  const { scratch } = context
  const creates = task === 'new' || task === 'sync'
  let unverified = task === 'read' ? null : verify
  return async (run) => {
    const folder = creates ? scratch.fresh() : null
    const target = {
      path: folder === null ? prepared : inside(folder),
      seed: task === 'read' ? READ_SEED : scratch.nextSeed(),
    }
    try {
      await scratch.evict(creates ? scratch.source : prepared)
      const outcome = await run(target)
      await unverified?.(target)
      unverified = null
      return outcome
    } finally {
      if (folder !== null) await scratch.drop(folder)
    }
  }
}
