/** A generation that is open: {@link Checkpoint}. */

import { signalOf } from '../core/abort.ts'
import { brand } from '../core/brand.ts'
import type { OpenedCheckpoint } from '../core/checkpoints.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { optionsOf, type SignalOptions } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import { onProgressOf, reporting, type ProgressOptions } from '../core/progress.ts'
import { nothing, type TableState } from '../safetensors/table-state.ts'
import { shownOf, TensorTable, tableStateOf } from '../safetensors/table.ts'

/** Options of {@link Checkpoint.copyTo}. */
export interface CopyOptions extends ProgressOptions, SignalOptions {}

const COPY_KEYS: ReadonlySet<string> = new Set(['onProgress', 'signal'])

/**
 * A generation of a store, open for reading. A tensor that several writers have split is one tensor again, under its own name
 * and in its whole shape; `info` has the file and position of one of its pieces. What is loaded and streamed is verified, unless
 * `verify` is false.
 *
 * While it is open, it is not removed. Close it after use; tensors that were loaded stay.
 *
 * @example
 * ```ts
 * import { openCheckpoints } from 'deepring/checkpoint'
 *
 * await using store = await openCheckpoints('run-1', { create: true })
 * const bias = { dtype: 'F32', shape: [4], data: new Float32Array([1, 2, 3, 4]) }
 * const { number } = await store.save({ bias }, { step: 7, meta: { loss: 0.5 } })
 * await using checkpoint = await store.open(number)
 * console.log(checkpoint.step, checkpoint.meta) // 7 { loss: 0.5 }
 * const half = await checkpoint.tensor('bias', { slice: [[2, 4]] })
 * console.log(half.data) // Float32Array(2) [ 3, 4 ]
 * await checkpoint.copyTo('backup')
 * ```
 */
export class Checkpoint extends TensorTable {
  readonly #opened: OpenedCheckpoint

  /** @internal */
  constructor(state: TableState, opened: OpenedCheckpoint) {
    super(state)
    this.#opened = opened
  }

  /** Its number in the store. */
  get number(): number {
    return this.#opened.generation
  }

  /** The step that it was saved at; `undefined` if that was not said. */
  get step(): number | undefined {
    return this.#opened.step
  }

  /** What the program said about it; `null` if it said nothing. Each look makes a new value. */
  get meta(): unknown {
    return JSON.parse(this.#opened.meta)
  }

  /** When it was committed, by the clock of the machine that did it. */
  get created(): Date {
    return new Date(this.#opened.createdMs)
  }

  /**
   * Copies the generation to another store, under the same number; a directory that is missing is created. All checksums are
   * compared on the way. The copy is there as a whole or not at all, and outlives a power failure when the promise resolves.
   *
   * @param options - `onProgress`, `signal`.
   * @throws `ERR_DEEPRING_CONFLICT` if the other store has the number; `ERR_DEEPRING_CHECKSUM` and `ERR_DEEPRING_FORMAT` if this
   * one is damaged; `ENOSPC`, `EIO`, ... Nothing is left then.
   */
  async copyTo(directory: FilePath, options?: CopyOptions): Promise<void> {
    const path = pathOf(directory, 'directory')
    const given = optionsOf(options, COPY_KEYS)
    const onProgress = onProgressOf(given.onProgress)
    const signal = signalOf(given.signal)
    const state = tableStateOf(this)
    state.check('copy')
    const operation = new Operation(nextId(), 'copy', nothing, null, null, undefined)
    operation.owner = this
    connect().copyGeneration(operation.id, state.opened.table, path.bytes)
    const { id } = operation
    const total = (): number => state.opened.bytes
    // A copy that was made is not undone: its store has it.
    return state.run(reporting(() => id, onProgress, track<void>(operation, signal), total, nothing))
  }

  static {
    brand('Checkpoint', this.prototype, (checkpoint) => ({ number: checkpoint.number, ...shownOf(checkpoint) }))
  }
}
