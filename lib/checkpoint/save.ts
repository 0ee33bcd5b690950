/** Saving a checkpoint in one call, with two moments: when the memory is the caller's again, and when all is durable. */

import { signalOf, throwIfAborted } from '../core/abort.ts'
import { connect } from '../core/completions.ts'
import { optionsOf } from '../core/options.ts'
import { onProgressOf, reporting } from '../core/progress.ts'
import { columnsToWrite } from '../safetensors/save-options.ts'
import { tensorsOf, type NamedTensors } from '../safetensors/save.ts'
import type { Generation } from './generation.ts'
import { Moment } from './moment.ts'
import { beginRequestOf, GROUP, groupOf, metaOf, SAVE_KEYS, type SaveCheckpointOptions } from './options.ts'
import type { StoreState } from './store-state.ts'

/**
 * A save in progress. It is itself the promise of its end, `committed`. That nothing looks at a failure is no
 * `unhandledRejection`: then the next `begin` or `save` of the store rejects with it, or its `close`.
 */
export interface CheckpointSave extends Promise<Generation> {
  /** The memory of the tensors is yours again. What changes there from now on does not reach the checkpoint. */
  readonly captured: Promise<void>
  /** The generation is visible, and durable. */
  readonly committed: Promise<Generation>
}

class Saving extends Moment<Generation> implements CheckpointSave {
  readonly captured: Promise<void>

  constructor(
    executor: (resolve: (value: Generation) => void, reject: (reason: unknown) => void) => void,
    captured: Promise<void>,
  ) {
    super(executor)
    this.captured = captured
  }

  get committed(): Promise<Generation> {
    return this
  }
}

/** See `CheckpointStore.save`. */
export function save(
  state: StoreState,
  owner: object,
  tensors: NamedTensors,
  options?: SaveCheckpointOptions,
): CheckpointSave {
  let isCaptured = false
  let capture: () => void
  let failCapture: (reason: unknown) => void
  const captured = new Moment<void>((resolve, reject) => {
    capture = () => {
      isCaptured = true
      resolve()
    }
    failCapture = reject
  })
  const saving = new Saving((resolve, reject) => {
    const writing = write(state, owner, tensors, options, () => capture())
    state.run(writing).then(resolve, (error: unknown) => {
      reject(error)
      failCapture(error)
      state.failures.add(error, isCaptured ? [saving] : [saving, captured])
    })
  }, captured)
  return saving
}

async function write(
  state: StoreState,
  owner: object,
  tensors: NamedTensors,
  options: SaveCheckpointOptions | undefined,
  captured: () => void,
): Promise<Generation> {
  // Up to the first `await`, this runs in the call.
  const list = tensorsOf(tensors)
  const columns = columnsToWrite(list.declarations, 'tensors')
  const { meta, group = GROUP, onProgress, signal, ...begin } = optionsOf(options, SAVE_KEYS)
  const request = beginRequestOf(begin)
  const name = groupOf(group)
  const json = meta === undefined ? null : metaOf(meta, 'options.meta')
  const report = onProgressOf(onProgress)
  const watched = signalOf(signal)
  state.check('save')
  const unseen = state.failures.report()
  if (unseen !== undefined) throw unseen.error

  const writer = await state.begin(owner, 0, (id, store) => connect().beginCheckpoint(id, store, request), watched)
  writer.meta = json
  try {
    let current = 0
    const prepare = async (): Promise<number> => {
      const { id, putting } = writer.put(list, watched, (each, number) =>
        connect().putTensors(each, number, columns, name, list.views, true),
      )
      current = id
      await putting
      captured()
      return writer.prepare(watched, (each) => (current = each))
    }
    const bytes = list.lengths.reduce((sum, length) => sum + length, 0)
    const total = (): number => bytes
    const prepared = await reporting(
      () => current,
      report,
      prepare(),
      total,
      (each) => writer.abandon(each),
    )
    if (watched?.aborted === true) {
      await writer.abandon(prepared)
      throwIfAborted(watched)
    }
    return await writer.publish(prepared)
  } catch (error) {
    await writer.abort().catch(() => {})
    throw error
  }
}
