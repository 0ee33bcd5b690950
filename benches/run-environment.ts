/**
 * The stage of a run: everything around the measured process, the same for every contender.
 *
 * Before: a fresh folder where files are created, a seed nobody used where something is written, the file system flushed and the files
 * out of the page cache. After the first writing: what arrived on the disk is compared with what was to be written. At the end: what was
 * created goes. None of it is in anybody's timed region.
 */

import { join } from 'node:path'
import type { Outcome } from './outcome.ts'
import { READ_SEED, type Tensors } from './scratch.ts'
import type { Setting } from './bench-context.ts'
import type { Task } from './task.ts'

/** Where the bytes of one run go, or come from, and how to recognise them. */
export interface Props {
  /** The large file, or the folder of the small ones. */
  readonly target: string
  /** The seed of the bytes in it. */
  readonly seed: number
}

/** A measured process, given its props. */
export type Act = (props: Props) => Promise<Outcome>

/** The stage for the one large file. */
export function fileStage(setting: Setting, task: Task, file: string, verifies = true): (act: Act) => Promise<Outcome> {
  const verify = (props: Props) =>
    setting.lab.ask('verify', {
      many: 'no',
      file: props.target,
      bytes: setting.bytes,
      seed: props.seed,
      source: setting.scratch.source,
    })
  return stage(setting, task, file, (folder) => join(folder, 'file'), verifies ? verify : null)
}

/** The stage for the small files. */
export function tensorStage(setting: Setting, task: Task, tensors: Tensors): (act: Act) => Promise<Outcome> {
  const verify = (props: Props) =>
    setting.lab.ask('verify', {
      many: 'yes',
      folder: props.target,
      list: tensors.list,
      seed: props.seed,
      source: setting.scratch.source,
    })
  return stage(setting, task, tensors.folder, (folder) => folder, verify)
}

function stage(
  setting: Setting,
  task: Task,
  prepared: string,
  inside: (folder: string) => string,
  verify: ((props: Props) => Promise<unknown>) | null,
): (act: Act) => Promise<Outcome> {
  const { scratch } = setting
  const creates = task === 'new' || task === 'sync'
  let unverified = task === 'read' ? null : verify
  return async (act) => {
    const folder = creates ? scratch.fresh() : null
    const props = {
      target: folder === null ? prepared : inside(folder),
      seed: task === 'read' ? READ_SEED : scratch.nextSeed(),
    }
    try {
      await scratch.evict(creates ? scratch.source : prepared)
      const outcome = await act(props)
      await unverified?.(props)
      unverified = null
      return outcome
    } finally {
      if (folder !== null) await scratch.drop(folder)
    }
  }
}
