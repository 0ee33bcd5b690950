/** A directory of generations: {@link CheckpointStore}. */

import { signalOf } from '../core/abort.ts'
import { brand, Uncloneable } from '../core/brand.ts'
import type { Collected as CollectedNumbers, LatestCheckpoint, OpenedCheckpoint } from '../core/checkpoints.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, waitedFor } from '../core/engine-state.ts'
import { fromFailure, invalidType, invalidValue, type DeepringError } from '../core/errors.ts'
import { booleanOf, integerOf, optionsOf, SIGNAL_KEYS, wordOf, type SignalOptions } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import type { RecordView } from '../core/record.ts'
import { engineOf, engineStateOf } from '../engine/engine.ts'
import { closeUnseen } from '../safetensors/open.ts'
import type { NamedTensors } from '../safetensors/save.ts'
import { nothing, TableState } from '../safetensors/table-state.ts'
import { Checkpoint } from './checkpoint.ts'
import {
  BEGIN_KEYS,
  beginRequestOf,
  generationOf,
  JOIN_KEYS,
  keepOf,
  OPEN_KEYS,
  writingOf,
  type BeginOptions,
  type JoinOptions,
  type OpenCheckpointsOptions,
  type SaveCheckpointOptions,
} from './options.ts'
import { save, type CheckpointSave } from './save.ts'
import { StoreState } from './store-state.ts'
import { CheckpointWriter } from './writer.ts'

/** Options of `latest`. */
export interface LatestOptions extends SignalOptions {
  /**
   * How much of a generation is looked at before it counts as whole. `'sizes'`: the manifest, the parts, the size of every file
   * and every header. `'all'`: every byte. Default `'sizes'`.
   */
  verify?: 'sizes' | 'all' | undefined
}

/** A generation that is damaged. */
export interface Skipped {
  /** Its number. */
  readonly generation: number
  /** What is wrong. */
  readonly reason: DeepringError
}

/** What `latest` has found. */
export interface Latest {
  /** The newest generation that is whole; `undefined` if there is none. */
  readonly checkpoint: Checkpoint | undefined
  /** Those after it, the newest first. */
  readonly skipped: readonly Skipped[]
}

/** What `collect` has removed. */
export interface Collected {
  /** The generations that were retired, in ascending order. */
  readonly generations: readonly number[]
  /** Directories of writers that have ended without a commit. */
  readonly temporaries: number
  /** Bytes of files that no other generation has. */
  readonly bytes: number
}

const LATEST_KEYS: ReadonlySet<string> = new Set(['verify', 'signal'])

const dropped = new FinalizationRegistry<StoreState>((state) => state.drop())

/**
 * Opens a store of checkpoints: a directory whose generations are each whole or absent, whatever happens to the process or the
 * machine. Any number of processes can use one at once.
 *
 * @param directory - Nothing is made in it before the first generation.
 * @throws `ENOENT` if there is no directory and `create` is false; `ENOTDIR`, `EACCES`, ...
 *
 * @example
 * ```ts
 * import { openCheckpoints } from 'deepring/checkpoint'
 *
 * const store = await openCheckpoints('run-1', { create: true, keep: { last: 2 } })
 * const weights = new Float32Array([1, 2])
 * const save = store.save({ weights: { dtype: 'F32', shape: [2], data: weights } }, { step: 1000, staging: 64 << 20 })
 * await save.captured
 * weights.fill(0) // the checkpoint does not change
 * const { number } = await save // it is durable
 * const { checkpoint, skipped } = await store.latest()
 * console.log(checkpoint?.number === number, checkpoint?.step, skipped.length) // true 1000 0
 * const tensors = await checkpoint?.load()
 * console.log(tensors?.get('weights')?.data) // Float32Array(2) [ 1, 2 ]
 * await checkpoint?.close()
 * await store.close()
 * ```
 */
export async function openCheckpoints(directory: FilePath, options?: OpenCheckpointsOptions): Promise<CheckpointStore> {
  const path = pathOf(directory, 'directory')
  const given = optionsOf(options, OPEN_KEYS)
  const create = booleanOf(given.create, 'options.create', false)
  const { last, every } = keepOf(given.keep)
  const owner = engineOf(given.engine)
  const signal = signalOf(given.signal)
  const engine = engineStateOf(owner)
  checkOpen(engine, 'open')
  const finish = (_operation: Operation, { detail }: RecordView): CheckpointStore =>
    new CheckpointStore(new StoreState(engine, path.text, detail as number))
  const operation = new Operation(nextId(), 'open', finish, null, null, path.text)
  operation.owner = owner
  operation.extra.discard = ({ detail }) => runInBackground((id) => connect().closeStore(id, detail as number))
  connect().openStore(operation.id, engine.number, path.bytes, create, last, every)
  return waitedFor(engine, track<CheckpointStore>(operation, signal))
}

/**
 * A store of checkpoints. Made by {@link openCheckpoints}.
 *
 * @example
 * ```ts
 * import { openCheckpoints } from 'deepring/checkpoint'
 *
 * await using store = await openCheckpoints('run-1', { create: true, keep: { last: 2 } })
 * const weight = { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }
 * for (let step = 1; step <= 3; step += 1) await store.save({ weight }, { step })
 * console.log(await store.list()) // [ 2, 3 ]
 * ```
 */
export class CheckpointStore extends Uncloneable {
  readonly #state: StoreState

  /** @internal */
  constructor(state: StoreState) {
    super()
    if (!(state instanceof StoreState)) throw invalidType('state', 'what openCheckpoints makes', state)
    this.#state = state
    dropped.register(this, state, state)
  }

  /** The directory, as it was given. */
  get directory(): string {
    return this.#state.directory
  }

  /**
   * Saves tensors as a new generation: becomes visible as a whole, or not at all. Begins, puts all, and commits.
   *
   * @param tensors - Tensors of any library by name: an object, a `Map`, or any iterable of pairs. Their memory belongs to the
   * engine until `captured`.
   * @returns The promise of the durable generation, with `captured` beside it. If one nobody looks at rejects, the next `begin`
   * or `save` of the store rejects with the same error and does nothing else, or its `close`. An abort counts until the moment
   * at which the generation becomes visible.
   * @throws It rejects, and never throws: as `CheckpointWriter.put` and `CheckpointWriter.commit`. After a failure the
   * generations before it are as they were.
   */
  save(tensors: NamedTensors, options?: SaveCheckpointOptions): CheckpointSave {
    return save(this.#state, this, tensors, options)
  }

  /**
   * Begins a generation, as its first writer. Its number is larger than any before.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND` if the reference is missing; `ENOSPC`, `EACCES`, ...; the failure of a `save` before, if
   * nobody has looked at that.
   */
  async begin(options?: BeginOptions): Promise<CheckpointWriter> {
    const given = optionsOf(options, BEGIN_KEYS)
    const request = beginRequestOf(given)
    const signal = signalOf(given.signal)
    const state = this.#state
    state.check('begin')
    const unseen = state.failures.take()
    if (unseen !== undefined) throw unseen.error
    const begin = (id: number, store: number): void => connect().beginCheckpoint(id, store, request)
    return new CheckpointWriter(await state.begin(this, 0, begin, signal))
  }

  /**
   * Joins a generation that another writer has begun, in this process or in another.
   *
   * @param token - Of the first writer.
   * @param writer - The number of this one: from 1 to one less than there are writers. No other has it.
   * @throws `ERR_DEEPRING_NOT_FOUND` if the generation is not in progress in this store; `ERR_DEEPRING_CONFLICT` if the writer of
   * this number has joined before; `EACCES`, ...
   */
  async join(token: string, writer: number, options?: JoinOptions): Promise<CheckpointWriter> {
    if (typeof token !== 'string') throw invalidType('token', 'of type string', token)
    const writers = connect().writersOf(token)
    if (writers === 0) throw invalidValue('token', 'It is not that of a writer.', token)
    integerOf(writer, 'writer', 1, writers - 1)
    const given = optionsOf(options, JOIN_KEYS)
    const { staging, direct } = writingOf(given)
    const signal = signalOf(given.signal)
    this.#state.check('join')
    const join = (id: number, store: number): void =>
      connect().joinCheckpoint(id, store, token, writer, staging, direct)
    return new CheckpointWriter(await this.#state.begin(this, writer, join, signal))
  }

  /**
   * Opens a generation.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ERR_DEEPRING_FORMAT` if it is damaged, or a newer release wrote it: `reason` and `path` say
   * what; `EACCES`, ...
   */
  async open(generation: number, options?: SignalOptions): Promise<Checkpoint> {
    const number = generationOf(generation)
    const finish = (_operation: Operation, { detail }: RecordView): Checkpoint => this.#opened(detail)
    return this.#ask('open', options, (id, store) => connect().openGeneration(id, store, number), finish, closeOpened)
  }

  /**
   * Opens the newest generation that is whole, as far as `verify` says, and names those that it has passed over.
   *
   * @throws `EACCES`, `EIO`, ... if the store cannot be read. Damage is no error, but in the result.
   */
  async latest(options?: LatestOptions): Promise<Latest> {
    const { verify, ...rest } = optionsOf(options, LATEST_KEYS)
    const all = verify !== undefined && wordOf(verify, 'options.verify', ['sizes', 'all']) === 'all'
    const finish = (_operation: Operation, { detail }: RecordView): Latest => {
      const { checkpoint, skipped } = detail as LatestCheckpoint
      const each = skipped.map(({ generation, failure }) => ({ generation, reason: fromFailure(failure) }))
      return { checkpoint: checkpoint === undefined ? undefined : this.#opened(checkpoint), skipped: each }
    }
    return this.#ask('open', rest, (id, store) => connect().openLatest(id, store, all), finish, closeLatest)
  }

  /** The numbers of all generations, in ascending order. Whether they are whole is not looked at. */
  async list(options?: SignalOptions): Promise<number[]> {
    return this.#ask('list', options, (id, store) => connect().listGenerations(id, store), finishNumbers)
  }

  /**
   * Keeps a generation until it is unpinned, in this process and after it.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ENOSPC`, ...
   */
  async pin(generation: number, options?: SignalOptions): Promise<void> {
    const number = generationOf(generation)
    return this.#ask('pin', options, (id, store) => connect().pinGeneration(id, store, number, true), nothing)
  }

  /** Takes a pin away. That there is none is no error. */
  async unpin(generation: number, options?: SignalOptions): Promise<void> {
    const number = generationOf(generation)
    return this.#ask('unpin', options, (id, store) => connect().pinGeneration(id, store, number, false), nothing)
  }

  /** Whether a generation is pinned. */
  async isPinned(generation: number, options?: SignalOptions): Promise<boolean> {
    const number = generationOf(generation)
    return this.#ask('pin', options, (id, store) => connect().isGenerationPinned(id, store, number), finishFlag)
  }

  /**
   * Removes a generation, whatever the store keeps.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ERR_DEEPRING_CONFLICT` if it is pinned or a reader has it open.
   */
  async remove(generation: number, options?: SignalOptions): Promise<void> {
    const number = generationOf(generation)
    return this.#ask('remove', options, (id, store) => connect().removeGeneration(id, store, number), nothing)
  }

  /** Removes generations that are not kept, and what writers have left that ended without a commit. Every commit does the same. */
  async collect(options?: SignalOptions): Promise<Collected> {
    return this.#ask('collect', options, (id, store) => connect().collectGenerations(id, store), finishCollected)
  }

  /**
   * Waits for the saves, and closes the store. Writers that have begun and generations that are open stay. Can be called again.
   *
   * @throws The failure of a `save` that nobody has looked at.
   */
  async close(): Promise<void> {
    dropped.unregister(this.#state)
    return this.#state.close()
  }

  /** Closes the store: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #opened(detail: unknown): Checkpoint {
    const opened = detail as OpenedCheckpoint
    return new Checkpoint(new TableState(this.#state.engine, opened.table), opened)
  }

  #ask<T>(
    syscall: string,
    options: SignalOptions | undefined,
    stage: (id: number, store: number) => void,
    finish: (operation: Operation, record: RecordView) => T,
    discard?: (record: RecordView) => void,
  ): Promise<T> {
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check(syscall)
    return this.#state.ask(this, stage, finish, signal, discard)
  }

  static {
    brand('CheckpointStore', this.prototype, (store) => ({
      directory: store.directory,
      closed: store.#state.closed,
    }))
  }
}

function closeOpened({ detail }: RecordView): void {
  closeUnseen((detail as OpenedCheckpoint).table)
}

function closeLatest({ detail }: RecordView): void {
  const { checkpoint } = detail as LatestCheckpoint
  if (checkpoint !== undefined) closeUnseen(checkpoint.table)
}

function finishFlag(_operation: Operation, { detail }: RecordView): boolean {
  return detail === 1
}

function finishNumbers(_operation: Operation, { detail }: RecordView): number[] {
  return Array.from(detail as Float64Array)
}

function finishCollected(_operation: Operation, { detail }: RecordView): Collected {
  const { generations, temporaries, bytes } = detail as CollectedNumbers
  return Object.freeze({ generations, temporaries, bytes })
}
