/** Models as the verbs find them: safetensors files, or a generation of a store of checkpoints. */

import { statSync } from 'node:fs'
import { join } from 'node:path'
import { openCheckpoints, type Checkpoint, type CheckpointStore } from '../checkpoint/index.ts'
import { openSafetensors, type SafetensorsFile, type TensorTable } from '../safetensors/index.ts'
import { Misuse, Refusal } from './failure.ts'
import { quotedOf } from './text.ts'

/** A model that is open. */
export interface Model {
  readonly table: TensorTable
  /** Of safetensors files. */
  readonly safetensors?: SafetensorsFile
  /** Of a store of checkpoints. */
  readonly checkpoint?: Checkpoint
}

/** Runs something on an open store of checkpoints. */
export async function withStore<T>(
  directory: string,
  signal: AbortSignal,
  run: (store: CheckpointStore) => Promise<T>,
  keep: Parameters<typeof openCheckpoints>[1] = { keep: 'all' },
): Promise<T> {
  const store = await openCheckpoints(directory, { ...keep, signal })
  try {
    return await run(store)
  } finally {
    await store.close()
  }
}

/** The numbers of the generations of a directory; none if it is no store of checkpoints. */
export async function generationsOf(path: string, signal: AbortSignal): Promise<number[]> {
  if (!statSync(path).isDirectory()) return []
  return withStore(path, signal, (store) => store.list({ signal }))
}

/** Runs something on an open model, and closes that. */
export async function withModel<T>(
  path: string,
  generation: number | undefined,
  signal: AbortSignal,
  run: (model: Model) => Promise<T>,
): Promise<T> {
  const generations = await generationsOf(path, signal)
  if (generations.length === 0) {
    if (generation !== undefined) throw new Misuse(`--generation: ${quotedOf(path)} is not a store of checkpoints`)
    const safetensors = await openSafetensors(path, { strict: false, signal }).catch((error: unknown) => {
      const { code, path: absent } = error as { readonly code?: unknown; readonly path?: unknown }
      // A directory without an index is one with the usual name of a model.
      if (code === 'ENOENT' && absent === join(path, 'model.safetensors'))
        throw new Refusal(`${quotedOf(path)} has neither a model nor a generation of checkpoints`)
      throw error
    })
    return run({ table: safetensors, safetensors }).finally(() => safetensors.close())
  }
  return withStore(path, signal, async (store) => {
    const checkpoint =
      generation === undefined ? (await store.latest({ signal })).checkpoint : await store.open(generation, { signal })
    if (checkpoint === undefined) throw new Refusal(`no generation of ${quotedOf(path)} is whole`)
    return run({ table: checkpoint, checkpoint }).finally(() => checkpoint.close())
  })
}
