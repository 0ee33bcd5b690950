/** The state of an optimizer in a file, a group at a time in memory: {@link OptimizerSwapper}. */

import { signalOf } from '../core/abort.ts'
import { brand, otherCopy, Uncloneable } from '../core/brand.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { checkOpen, waitedFor } from '../core/engine-state.ts'
import { fromFailure, invalidType } from '../core/errors.ts'
import { Operation } from '../core/operation.ts'
import { booleanOf, integerOf, optionsOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import type { RecordView } from '../core/record.ts'
import type { CheckpointWriter } from '../checkpoint/writer.ts'
import { engineOf, engineStateOf } from '../engine/engine.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { checkTensorName } from '../safetensors/columns.ts'
import { lent, type Given } from '../safetensors/save.ts'
import { nothing } from '../safetensors/table-state.ts'
import { TensorTable, tableStateOf } from '../safetensors/table.ts'
import type { GroupLease } from './group.ts'
import {
  groupsOf,
  INITIALIZE_FROM_KEYS,
  OPEN_OPTIMIZER_KEYS,
  partsOf,
  STEP_KEYS,
  swapperRequestOf,
  type Group,
  type InitializeFromOptions,
  type OpenOptimizerOptions,
  type OptimizerGroup,
  type StepOptions,
} from './optimizer-options.ts'
import { snapshot } from './snapshot.ts'
import { step } from './step.ts'
import { SwapState } from './swap-state.ts'

/** Values by the names of parts: an object, a `Map`, or any iterable of pairs. */
export type NamedParts<T> = Readonly<Record<string, T>> | Iterable<readonly [string, T]>

/** What a swapper has done since it was opened. */
export interface OptimizerStats {
  /** The budget, in bytes. */
  readonly memory: number
  /** Of it, what is taken: groups that are read, leased, written or resident, and blocks of gradients. */
  readonly used: number
  /** The most that was taken at once. */
  readonly usedMax: number
  /** How many groups are read ahead and written behind. */
  readonly depth: number
  /** Bytes read from the drive. */
  readonly read: number
  /** Bytes written to the drive. */
  readonly written: number
  /** How many leases there were. */
  readonly leases: number
  /** While something was read. */
  readonly readMs: number
  /** While something was written. */
  readonly writeMs: number
  /** While something was read or written. */
  readonly ioMs: number
  /** While the program had a lease. */
  readonly computeMs: number
  /** While the program waited for its next lease. */
  readonly stallMs: number
  /** Of the time of reads and writes, the share in which the program did not wait for them: from 0 to 1. */
  readonly overlap: number
}

const leaked = new FinalizationRegistry<SwapState>((state) => state.leaked('an optimizer swapper'))

/**
 * Opens an optimizer swapper in a directory, with the groups that it had before, or makes one with `create`, whose parts are all
 * zero. Its file gets its space on the drive at once.
 *
 * @param options - `groups` is required.
 * @throws `ERR_DEEPRING_BUDGET` if the memory is less than the depth needs: `needed`; `ERR_DEEPRING_BUSY` if it is open, here or in
 * another process; `ERR_DEEPRING_TORN` if it is not durable and was not flushed before its process ended; `ERR_DEEPRING_FORMAT` if it
 * has other groups, or is damaged; `ERR_DEEPRING_INVALID` for groups that cannot be; `ENOENT`, `ENOSPC`, ...
 *
 * @example
 * ```ts
 * import { openOptimizerSwapper } from 'deepring/swap'
 *
 * const groups = [{ name: 'layer0', numel: 1000, states: ['momentum'], gradient: 'F32' }] as const
 * const swapper = await openOptimizerSwapper('optimizer', { groups, memory: 1 << 20, create: true })
 * await swapper.initialize('layer0', { param: new Float32Array(1000).fill(1) })
 * await swapper.putGradient('layer0', 0, new Float32Array(1000).fill(0.5)) // any piece, in any order
 * for await (const { param, states, gradient } of swapper.step()) {
 *   const { momentum } = states
 *   for (let i = 0; i < param.length; i += 1) {
 *     momentum[i] = 0.9 * momentum[i]! + gradient[i]!
 *     param[i]! -= 0.5 * momentum[i]!
 *   }
 * } // what a pass of the loop has changed is written behind the next
 * await swapper.flush()
 * for await (const group of swapper.step()) console.log(group.param[999]) // 0.75
 * await swapper.close()
 * ```
 */
export async function openOptimizerSwapper<const G extends OptimizerGroup>(
  directory: FilePath,
  options: OpenOptimizerOptions<G>,
): Promise<OptimizerSwapper<G>> {
  const path = pathOf(directory, 'directory')
  const given = optionsOf(options, OPEN_OPTIMIZER_KEYS)
  const groups = groupsOf(given.groups)
  const request = swapperRequestOf(groups, given)
  const owner = engineOf(given.engine)
  const signal = signalOf(given.signal)
  const engine = engineStateOf(owner)
  checkOpen(engine, 'open')
  const finish = (_operation: Operation, { detail }: RecordView): OptimizerSwapper<G> =>
    new OptimizerSwapper<G>(new SwapState('swapper', engine, path.text, detail as number), path.text, groups)
  const operation = new Operation(nextId(), 'open', finish, null, null, path.text)
  operation.owner = owner
  operation.extra.discard = ({ detail }) => {
    runInBackground((id) => connect().closeSwapper(id, detail as number))
    connect().dropSwapper(detail as number)
  }
  connect().openSwapper(operation.id, engine.number, path.bytes, request)
  return waitedFor(engine, track<OptimizerSwapper<G>>(operation, signal))
}

/**
 * The parameters and states of an optimizer, larger than memory: in one file, each group contiguous. A step reads groups ahead of the
 * program and writes them behind it, within a budget of memory. Made by {@link openOptimizerSwapper}.
 *
 * States that were never written are zeros, and neither read nor stored. Gradients come in pieces of any size, and are used by
 * the next lease of their group that is closed with a write; they are not kept when the swapper is opened again.
 *
 * What is in use by a step or another call is `ERR_DEEPRING_BUSY`.
 *
 * @example
 * ```ts
 * import { openOptimizerSwapper } from 'deepring/swap'
 *
 * const swapper = await openOptimizerSwapper('optimizer', {
 *   groups: [{ name: 'layer.0', numel: 4, states: ['momentum'], gradient: 'F32' }],
 *   memory: 1 << 20,
 *   create: true,
 * })
 * await swapper.putGradient('layer.0', 0, new Float32Array(4).fill(2))
 * for await (const { param, states, gradient } of swapper.step()) {
 *   for (const [i, g] of gradient.entries()) {
 *     states.momentum[i] = 0.5 * states.momentum[i]! + g
 *     param[i]! -= states.momentum[i]!
 *   }
 * }
 * for await (const { param } of swapper.step()) console.log(param) // Float32Array(4) [ -2, -2, -2, -2 ]
 * await swapper.close()
 * ```
 */
export class OptimizerSwapper<G extends OptimizerGroup = OptimizerGroup> extends Uncloneable {
  readonly #state: SwapState
  readonly #directory: string
  readonly #groups: readonly Group[]

  /** @internal */
  constructor(state: SwapState, directory: string, groups: readonly Group[]) {
    super()
    if (!(state instanceof SwapState)) throw invalidType('state', 'what openOptimizerSwapper makes', state)
    this.#state = state
    this.#directory = directory
    this.#groups = Object.freeze([...groups])
    leaked.register(this, state, state)
  }

  /** The directory, as it was given. */
  get directory(): string {
    return this.#directory
  }

  /** The groups, in their order, with all defaults. */
  get groups(): readonly Readonly<OptimizerGroup>[] {
    return this.#groups
  }

  /**
   * Gives parts of a group their bytes, by the names `param` and those of its states: any views of the size of the part. Their
   * memory is yours again when the promise settles.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND` for a group or part that is not there; `ERR_DEEPRING_INVALID` if the sizes differ;
   * `ERR_DEEPRING_BUSY`; `ERR_DEEPRING_DETACHED`; `ENOSPC`, `EIO`, ...: then all parts of the group have to be given again.
   */
  async initialize(group: string, parts: NamedParts<Bytes>, options?: SignalOptions): Promise<void> {
    checkTensorName(group, 'group')
    const { names, values } = partsOf<Bytes>(parts, 'parts')
    const views = values.map((value) => viewOf(value, undefined, undefined))
    const stage = (id: number, swapper: number): void => connect().initializeGroup(id, swapper, group, names, views)
    return this.#lend(group, names, views, options, stage)
  }

  /**
   * Gives parts of a group the bytes of tensors, in files of any format, a few MiB at a time.
   *
   * @param tensors - For names of parts, the names of tensors with as many elements, of any shape.
   * @throws As {@link OptimizerSwapper.initialize}; `ERR_DEEPRING_INVALID` if a tensor has another type, and is not converted, or
   * another number of elements; `ERR_DEEPRING_BUDGET` if one index of the first dimension of a tensor does not fit in the memory.
   */
  async initializeFrom(
    group: string,
    source: TensorTable,
    tensors: NamedParts<string>,
    options?: InitializeFromOptions,
  ): Promise<void> {
    checkTensorName(group, 'group')
    const { names, values } = partsOf<string>(tensors, 'tensors')
    for (const value of values) checkTensorName(value, 'tensors')
    const { convert, ...rest } = optionsOf(options, INITIALIZE_FROM_KEYS)
    const converts = booleanOf(convert, 'options.convert', false)
    return this.#from(source, rest, (id, swapper, table) =>
      connect().initializeGroupFrom(id, swapper, group, table, names, values, converts),
    )
  }

  /**
   * Gives a piece of a gradient, from the element `offset` on: of any size, in any order. It is copied, and written when its block of
   * 4 MiB is complete. The memory of the piece is yours again when the promise settles. Waits for memory, and not for the drive
   * otherwise.
   *
   * @throws `ERR_DEEPRING_OVERLAP` if some of its bytes have come before; `ERR_DEEPRING_OUT_OF_RANGE` if it leaves the gradient;
   * `ERR_DEEPRING_BUSY` if a step has not come past the group; `ERR_DEEPRING_BUDGET` if leases of the program have all memory;
   * `ERR_DEEPRING_INVALID` if the group has no gradient.
   */
  async putGradient(group: string, offset: number, piece: Bytes, options?: SignalOptions): Promise<void> {
    checkTensorName(group, 'group')
    const at = integerOf(offset, 'offset', 0, Number.MAX_SAFE_INTEGER)
    const view = viewOf(piece, undefined, undefined)
    const stage = (id: number, swapper: number): void => connect().putGradient(id, swapper, group, at, view)
    return this.#lend(group, ['gradient'], [view], options, stage)
  }

  /**
   * Writes the pieces of gradients that are in memory, and waits until they are written. A step does so by itself.
   *
   * @throws `ENOSPC`, `EIO`, ...
   */
  async flushGradients(options?: SignalOptions): Promise<void> {
    return this.#ask('flush', options, (id, swapper) => connect().flushGradients(id, swapper))
  }

  /**
   * Makes parts of a group all zeros: states, or `param`. Nothing is read or written.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`, `ERR_DEEPRING_BUSY`.
   */
  reset(group: string, parts: Iterable<string>): void {
    checkTensorName(group, 'group')
    if (typeof parts !== 'object' || parts === null) throw invalidType('parts', 'an iterable of names', parts)
    const names = Array.from(parts, (part) => checkTensorName(part, 'parts'))
    this.#state.check('reset')
    const failure = connect().resetGroup(this.#state.number, group, names)
    if (failure !== null) throw fromFailure(failure)
  }

  /**
   * A step: the groups one after the other, read ahead of the loop and written behind it.
   *
   * A group is closed with a write when the loop goes on; `close` inside of the loop chooses what is written. If the body throws or
   * leaves the loop, nothing of its group is written; those before it are. Computation that never waits keeps the results of reads
   * and writes from being seen, and that costs little: they go on, on other threads.
   *
   * @throws From the first step of the loop, `ERR_DEEPRING_BUSY` if another step, or another call that needs a group, has not ended;
   * `ERR_DEEPRING_NOT_FOUND` for a group that is not there; `ERR_DEEPRING_INVALID` if one is there twice. From any, `EIO`, ..., also
   * of an earlier write: it names the group as `tensor`; `ERR_DEEPRING_BUDGET` if the program keeps so many leases that waiting
   * would never end.
   */
  step(options?: StepOptions): AsyncGenerator<GroupLease<G>, undefined> {
    const { order, signal } = optionsOf(options, STEP_KEYS)
    if (order !== undefined && !Array.isArray(order)) throw invalidType('options.order', 'an array of names', order)
    const names = order?.map((name) => checkTensorName(name, 'options.order')) ?? null
    return step<G>({ state: this.#state, owner: this, groups: this.#groups, order: names, signal: signalOf(signal) })
  }

  /**
   * Waits for all writes, and makes what they wrote durable: the next open finds it. Gradients are not part of it.
   *
   * @throws `ERR_DEEPRING_BUSY` in a step, or if a durable swapper is read by a snapshot; `ENOSPC`, `EIO`, ..., which name the group
   * that could not be written.
   */
  async flush(options?: SignalOptions): Promise<void> {
    return this.#ask('flush', options, (id, swapper) => connect().flushSwapper(id, swapper))
  }

  /**
   * Flushes, and puts all groups into a checkpoint in progress, part by part: tensors of the names `GROUP.param` and `GROUP.STATE`, of
   * one dimension. Parts of whole pages share the blocks of the file system with the swapper where it can do that, and are not
   * written again: the receipt of the commit counts them as cloned. It takes memory for two parts beside the budget. A durable swapper can be used meanwhile, but not flushed; of
   * any other, groups are in use until the promise settles.
   *
   * @throws As {@link OptimizerSwapper.flush}, and as `CheckpointWriter.put`. Do not commit the checkpoint then.
   */
  async snapshot(writer: CheckpointWriter, options?: SignalOptions): Promise<void> {
    const stage = (id: number, into: number): void => connect().snapshotSwapper(id, this.#state.number, into)
    return snapshot(this.#state, writer, options, stage)
  }

  /**
   * Initializes all groups from the tensors of a snapshot.
   *
   * @throws As {@link OptimizerSwapper.initializeFrom}.
   */
  async restore(source: TensorTable, options?: SignalOptions): Promise<void> {
    return this.#from(source, options, (id, swapper, table) => connect().restoreSwapper(id, swapper, table))
  }

  /** What it has done so far. */
  stats(): OptimizerStats {
    this.#state.check('stats')
    return Object.freeze(connect().swapperStats(this.#state.number))
  }

  /**
   * Waits for the calls, flushes, and closes the swapper. Another can open it then. Can be called again.
   *
   * @throws As {@link OptimizerSwapper.flush}; then the swapper is still open.
   */
  async close(): Promise<void> {
    await this.#state.close()
    leaked.unregister(this.#state)
  }

  /** Closes the swapper: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #ask(
    call: string,
    options: SignalOptions | undefined,
    stage: (id: number, swapper: number) => void,
    holds: readonly Uint8Array[] = [],
  ): Promise<void> {
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check(call)
    return this.#state.ask(this, { call, stage, finish: nothing, signal, holds })
  }

  /** A call that lends memory of the caller. */
  async #lend(
    group: string,
    names: readonly string[],
    views: Uint8Array[],
    options: SignalOptions | undefined,
    stage: (id: number, swapper: number) => void,
  ): Promise<void> {
    const declarations = names.map((part) => ({ name: `${group}.${part}`, dtype: 'U8', shape: [] }))
    const given: Given = { declarations, views, lengths: views.map(({ byteLength }) => byteLength) }
    return lent(given, this.#ask('put', options, stage, views))
  }

  /** A call that reads tensors of a table, which is not closed before. */
  async #from(
    source: TensorTable,
    options: SignalOptions | undefined,
    stage: (id: number, swapper: number, table: number) => void,
  ): Promise<void> {
    if (!(source instanceof TensorTable))
      throw otherCopy('source', 'TensorTable', source) ?? invalidType('source', 'a TensorTable', source)
    const table = tableStateOf(source)
    table.check('read')
    return table.run(this.#ask('put', options, (id, swapper) => stage(id, swapper, table.opened.table)))
  }

  static {
    brand('OptimizerSwapper', this.prototype, (swapper) => ({
      directory: swapper.directory,
      groups: swapper.groups.length,
      closed: swapper.#state.closed,
    }))
  }
}
