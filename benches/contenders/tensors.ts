/**
 * Contenders over a file of tensors: deepring, and what else loads and saves them.
 *
 * The reference implementation is a program in Rust (`native/src/reference.rs`), and the wheel of it
 * one in Python.
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import { join } from 'node:path'
import type {
  ModelParameters,
  TensorsLoadParameters,
  TensorsMethod,
  TensorsPartParameters,
  TensorsSaveParameters,
} from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import type { Model } from '../models/model.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import type { BenchContext } from '../bench-context.ts'

/** Runs after the file has left the page cache. */
function cold({ scratch }: BenchContext, { file }: Model, run: () => Promise<Outcome>): () => Promise<Outcome> {
  return async () => {
    await scratch.evict(file)
    return run()
  }
}

/** What a child needs to know of a file. */
export function modelParameters({ file, bytes, tensorBytes, start, source, origin, seed }: Model): ModelParameters {
  return { file, bytes, tensorBytes, start, source, origin, seed }
}

/** A load in this process' own language. `original` has the same tensors where the tiling says. */
export function loading(
  context: BenchContext,
  name: string,
  method: TensorsMethod,
  memory: 'touched' | 'fresh',
  model: Model,
  original: Model = model,
): Contender {
  const touched = memory === 'touched'
  const words = { ...modelParameters(model), method, touched, original: original === model ? null : original.file }
  const where = touched ? 'touched memory' : 'memory never touched'
  return {
    name,
    configuration: `${model.label}, ${method === 'subarray' ? 'cold cache' : where}`,
    run: cold(context, model, () => runChild<TensorsLoadParameters>('tensors-load', words)),
  }
}

/** The reference implementation over a mapping: with a copy of every byte, or lazily. */
export function mapped(context: BenchContext, name: string, mode: 'copy' | 'touch', model: Model): Contender {
  const { file, source, origin, seed } = model
  return {
    name,
    configuration: `${model.label}, ${mode === 'copy' ? 'copied into private memory' : 'lazy: one byte of each page'}`,
    run: cold(context, model, () => context.native.measure('mapped', { file, mode, source, origin, seed })),
  }
}

/** A part of each matrix, or a stream within a budget; `extra` has what of the file is in the page cache afterwards. */
export function parts(
  context: BenchContext,
  name: string,
  child: 'tensors-slices' | 'tensors-stream',
  configuration: string,
  model: Model,
): Contender {
  // The first run only shows that the bytes are right: to look at them takes time.
  let verified = false
  const once = async (verifies: boolean): Promise<Outcome> => {
    await context.scratch.evict(model.file)
    const outcome = await runChild<TensorsPartParameters>(child, { ...modelParameters(model), verifies })
    const { residentBytes } = await context.native.run('resident', { path: model.file })
    return { ...outcome, extra: { ...outcome.extra, residentBytes: Number(residentBytes) } }
  }
  return {
    name,
    configuration: `${model.label}, ${configuration}`,
    run: async () => {
      if (!verified) await once(true)
      verified = true
      return once(false)
    },
  }
}

/** The process that streams nothing. */
export function idle(model: Model): Contender {
  return {
    name: 'idle',
    configuration: 'deepring imported, no requests',
    run: () =>
      runChild<TensorsPartParameters>('tensors-stream', { ...modelParameters(model), bytes: 0, verifies: false }),
  }
}

/** How tensors are saved. */
export type SaveMethod = 'raw' | 'tensors' | 'loaded' | 'reference'

/** The tensors of a file, saved in a new one that is on the disk at the end. */
export function saving(context: BenchContext, name: string, method: SaveMethod, model: Model): Contender {
  const { scratch, native } = context
  let verifies = true
  const run = async (to: string): Promise<Outcome> => {
    if (method === 'reference')
      return native.measure('saved', { model: model.file, file: to, verify: verifies ? 'yes' : 'no' })
    return runChild<TensorsSaveParameters>('tensors-save', {
      ...modelParameters(model),
      to,
      method: method === 'raw' ? 'raw' : 'tensors',
      aligned: method !== 'loaded',
      verifies,
    })
  }
  return {
    name,
    configuration: `${model.label}, ${SAVES[method]}`,
    run: () =>
      scratch.inFresh(async (folder) => {
        await scratch.evict(model.file)
        const outcome = await run(join(folder, 'model.safetensors'))
        verifies = false
        return outcome
      }),
  }
}

const SAVES: Readonly<Record<SaveMethod, string>> = {
  raw: 'one write, fsync',
  tensors: 'each tensor on a page of memory',
  loaded: 'memory as a load has placed it',
  reference: 'serialize_to_file, fsync of file and folder',
}
