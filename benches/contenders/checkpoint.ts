/**
 * Contenders over checkpoints of a model: deepring from JavaScript, and from Rust without JavaScript in the process
 * (`native/src/checkpoint.rs`).
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { CheckpointParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import type { Model } from '../models/model.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import type { BenchContext } from '../bench-context.ts'
import { modelParameters } from './tensors.ts'

/** What is written, or copied. */
export type CheckpointWrite = 'raw' | 'copy' | 'one' | 'two' | 'first-capture' | 'capture' | 'full' | 'incremental'

/** What is written from JavaScript. */
export type CheckpointMethod = CheckpointParameters['method']

/** How a checkpoint is read. */
export type CheckpointRead = 'verify' | 'load' | 'reshard'

const WRITES: Readonly<Record<CheckpointWrite, string>> = {
  raw: 'one write, fsync',
  copy: 'memcpy by one thread, into touched memory',
  one: 'one writer, with checksums',
  two: 'two writers, one in a worker, with checksums',
  'first-capture': 'staging for all, memory never touched',
  capture: 'staging for all, as before',
  full: 'all tensors, in two groups',
  incremental: 'one tensor of ten, the others taken over',
}

const READS: Readonly<Record<CheckpointRead, string>> = {
  verify: 'every chunk compared',
  load: 'tensors in one piece',
  reshard: 'four pieces each, for two readers',
}

/** A checkpoint of the tensors of a file, which are in memory; or what it is held against. */
export function checkpointing(context: BenchContext, name: string, method: CheckpointMethod, model: Model): Contender {
  return writing(context, name, WRITES[method], model, (folder, verifies) =>
    runChild<CheckpointParameters>('checkpoint-save', { ...modelParameters(model), folder, method, verifies }),
  )
}

/** The same from Rust. */
export function checkpointingRust(context: BenchContext, name: string, mode: CheckpointWrite, model: Model): Contender {
  return writing(context, name, WRITES[mode], model, (folder, verifies) =>
    context.native.measure('checkpoint', { model: model.file, folder, mode, verify: verifies ? 'yes' : 'no' }),
  )
}

function writing(
  { scratch }: BenchContext,
  name: string,
  configuration: string,
  model: Model,
  run: (folder: string, verifies: boolean) => Promise<Outcome>,
): Contender {
  // The first run also shows that the bytes are right.
  let verifies = true
  return {
    name,
    configuration: `${model.label}, ${configuration}`,
    run: () =>
      scratch.inFresh(async (folder) => {
        await scratch.evict(model.file)
        const outcome = await run(folder, verifies)
        verifies = false
        return outcome
      }),
  }
}

/** Makes a checkpoint to read; `split`: its larger tensors have four pieces each. Returns the folder of its store. */
export async function preparedCheckpoint(context: BenchContext, model: Model, split: boolean): Promise<string> {
  const folder = join(context.scratch.folder, split ? 'checkpoint-split' : 'checkpoint-whole')
  mkdirSync(folder)
  await context.native.run('checkpoint-make', { model: model.file, folder, split: split ? 'yes' : 'no' })
  return folder
}

/** Reads a prepared checkpoint that is not in the page cache. */
export function readingCheckpoint(
  context: BenchContext,
  name: string,
  mode: CheckpointRead,
  folder: string,
): Contender {
  return {
    name,
    configuration: READS[mode],
    run: async () => {
      await context.scratch.evict(join(folder, '000000000001'))
      return context.native.measure('checkpoint-read', { folder, mode })
    },
  }
}
