/** Tensors by name, of which a budget of memory has some: {@link SwapStore}. */

import { signalOf } from '../core/abort.ts'
import { brand, otherCopy, Uncloneable } from '../core/brand.ts'
import { connect, isLost, nextId, runInBackground, track, whenUnused } from '../core/completions.ts'
import { checkOpen, waitedFor } from '../core/engine-state.ts'
import { invalidType, invalidValue, quotedName } from '../core/errors.ts'
import { Operation } from '../core/operation.ts'
import { booleanOf, bytesOf, integerOf, optionsOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import type { RecordView } from '../core/record.ts'
import type { SwapLeased } from '../core/swaps.ts'
import type { CheckpointWriter } from '../checkpoint/writer.ts'
import { engineOf, engineStateOf } from '../engine/engine.ts'
import { isGiveable } from '../memory/buffer.ts'
import { checkDtype, type DType } from '../memory/dtype.ts'
import { viewOf, type Bytes, type TensorLike } from '../memory/view.ts'
import { checkTensorName, columnsOf } from '../safetensors/columns.ts'
import { textsOf, type Rows } from '../safetensors/info.ts'
import { bytesOf as bytesOfTensor } from '../safetensors/save-options.ts'
import { lent, tensorsOf, type Given, type NamedTensors } from '../safetensors/save.ts'
import { sliceNumbersFor } from '../safetensors/slices.ts'
import { nothing } from '../safetensors/table-state.ts'
import { TensorTable, tableStateOf } from '../safetensors/table.ts'
import { SwapLease, type AnySwapLease } from './lease.ts'
import {
  EXPIRES_MS,
  GET_KEYS,
  namesOf,
  OPEN_KEYS,
  OVER_KEYS,
  PLAN_KEYS,
  PREFETCH_KEYS,
  PUT_KEYS,
  putRequestOf,
  swapRequestOf,
  type OpenSwapOptions,
  type PlanOptions,
  type PrefetchOptions,
  type SwapGetOptions,
  type SwapOverOptions,
  type SwapPutOptions,
} from './options.ts'
import { snapshot } from './snapshot.ts'
import { SwapState } from './swap-state.ts'

/** What a store says of a tensor. */
export interface SwapInfo {
  /** Any text. */
  readonly name: string
  /** The element type. A name that {@link DType} does not have is possible in a model: such a tensor is bytes. */
  readonly dtype: DType | (string & {})
  /** The extents, outermost first; empty for a scalar. */
  readonly shape: readonly number[]
  /** The length of its elements, in bytes. */
  readonly byteLength: number
  /**
   * Where its newest version is. `'stored'`: on the drive alone. `'reading'`: on its way into memory. `'resident'`: in memory, and
   * on the drive. `'dirty'`: in memory, and not on the drive yet. `'writing'`: in memory, and on its way to the drive. `'leased'`:
   * in memory, as long as a lease of it lasts.
   */
  readonly state: 'stored' | 'reading' | 'resident' | 'dirty' | 'writing' | 'leased'
}

/** What a store has done, and what it has in memory. All are bytes unless it is said otherwise. */
export interface SwapStats {
  /** The budget. */
  readonly memory: number
  /** Of it, what is taken: the sum of the four that follow, and of memory for what is on its way in or out. */
  readonly used: number
  /** In memory and on the drive, and free to go. */
  readonly resident: number
  /** Being read. */
  readonly reading: number
  /** Not on the drive yet. */
  readonly dirty: number
  /** Kept by leases, of slices too, and pins. */
  readonly leased: number
  /** The most that was ever taken. */
  readonly usedMax: number
  /** Of the file. */
  readonly capacity: number
  /** Of it, what tensors have. */
  readonly stored: number
  /** Taken over from the program without a copy. */
  readonly adopted: number
  /** Read from the drive. */
  readonly read: number
  /** Written to the drive. */
  readonly written: number
  /** How many tensors were written together with a neighbor. */
  readonly joined: number
  /** How many gets found their tensor in memory. */
  readonly hits: number
  /** How many gets waited for the drive. */
  readonly misses: number
  /** How many tensors were read ahead. */
  readonly prefetched: number
  /** How many of these were asked for afterwards. */
  readonly prefetchHits: number
  /** How many guesses were dropped before their read began. */
  readonly expired: number
  /** How many tensors were dropped from memory to make room. */
  readonly evicted: number
}

const leaked = new FinalizationRegistry<SwapState>((state) => state.leaked('a swap store'))

/**
 * Opens a swap store in a directory, or begins one there with `create`. Its tensors are those of the last flush.
 *
 * @param options - `memory` is required.
 * @throws `ERR_DEEPRING_BUSY` if the store is open, here or in another process; `ERR_DEEPRING_TORN` if it writes in place and was not
 * flushed before its process ended; `ERR_DEEPRING_FORMAT` if its index is damaged, or its file shorter than that says; `ENOENT` if
 * there is no directory and `create` is false; `ENOSPC` if there is no room for `capacity`; ...
 *
 * @example
 * ```ts
 * import { openSwap } from 'deepring/swap'
 *
 * const store = await openSwap('swap', { memory: 64 << 20, create: true })
 * await store.put('bias', { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }) // copied: the memory is yours again
 * const lease = await store.getMut('bias')
 * if (lease.dtype === 'F32') lease.data[0] = 7
 * await lease.close() // the new version, which is written behind the program
 * const bias = await store.get('bias')
 * console.log(bias.data) // Float32Array(2) [ 7, 2 ]
 * await bias.close()
 * await store.close() // flushed
 * ```
 */
export async function openSwap(directory: FilePath, options: OpenSwapOptions): Promise<SwapStore> {
  const path = pathOf(directory, 'directory')
  const given = optionsOf(options, OPEN_KEYS)
  const request = swapRequestOf(given)
  const owner = engineOf(given.engine)
  const signal = signalOf(given.signal)
  const engine = engineStateOf(owner)
  checkOpen(engine, 'open')
  const finish = (_operation: Operation, { detail }: RecordView): SwapStore =>
    new SwapStore(new SwapState('store', engine, path.text, detail as number), path.text)
  const operation = new Operation(nextId(), 'open', finish, null, null, path.text)
  operation.owner = owner
  operation.extra.discard = ({ detail }) => {
    runInBackground((id) => connect().closeSwap(id, detail as number))
    connect().dropSwap(detail as number)
  }
  connect().openSwap(operation.id, engine.number, path.bytes, request)
  return waitedFor(engine, track<SwapStore>(operation, signal))
}

/**
 * Tensors by name, more than fit in memory: in a file of the store's own, or in those of a model. Made by {@link openSwap} and
 * {@link SwapStore.over}.
 *
 * What is in memory is never more than the budget. A call that does not fit waits, in the order of the calls, until leases end and
 * what is unwritten is written; `signal` ends the wait. A call that waits for leases which the program itself holds waits for ever.
 *
 * **What is written behind the program** can fail. The error is reported once: by the next call that brings a version of that
 * tensor, or by the next `flush` or `close`. The tensor stays in memory until then, and is tried again by the next flush.
 *
 * @example
 * ```ts
 * import { openSwap } from 'deepring/swap'
 *
 * const store = await openSwap('swap', { memory: 1 << 20, create: true })
 * for (const name of ['a', 'b', 'c']) {
 *   await store.put(name, { dtype: 'U8', shape: [400_000], data: new Uint8Array(400_000).fill(1) })
 * }
 * let sum = 0
 * for (const name of store.names()) {
 *   const lease = await store.get(name)
 *   for (const byte of lease.bytes) sum += byte
 *   await lease.close()
 * }
 * console.log(sum, store.stats().used <= 1 << 20) // 1200000 true
 * await store.close()
 * ```
 */
export class SwapStore extends Uncloneable {
  readonly #state: SwapState
  readonly #directory: string | undefined
  /** Of a model. */
  readonly #rows: Rows | undefined

  /** @internal */
  constructor(state: SwapState, directory: string | undefined, rows?: Rows) {
    super()
    if (!(state instanceof SwapState)) throw invalidType('state', 'what openSwap makes', state)
    this.#state = state
    this.#directory = directory
    this.#rows = rows
    leaked.register(this, state, state)
  }

  /**
   * A store that only reads: the tensors of open safetensors, of a checkpoint or of any table of rows from their own files, within
   * a budget. Nothing is copied to another file. They are verified as those of a `load` are.
   *
   * The table can be closed; its files are open until the store is closed.
   *
   * @throws `ERR_DEEPRING_CLOSED` if the table is closed.
   *
   * @example
   * ```ts
   * import { openSafetensors, saveSafetensors } from 'deepring/safetensors'
   * import { SwapStore } from 'deepring/swap'
   *
   * const expert = { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }
   * await saveSafetensors('model.safetensors', { 'expert.0': expert, 'expert.1': expert })
   * const model = await openSafetensors('model.safetensors')
   * const experts = SwapStore.over(model, { memory: 1 << 20 })
   * experts.plan(['expert.0', 'expert.1'], { repeat: true })
   * const lease = await experts.get('expert.1')
   * console.log(lease.data) // Float32Array(2) [ 1, 2 ]
   * await lease.close()
   * await experts.close()
   * await model.close()
   * ```
   */
  static over(table: TensorTable, options: SwapOverOptions): SwapStore {
    if (!(table instanceof TensorTable))
      throw otherCopy('table', 'TensorTable', table) ?? invalidType('table', 'an instance of TensorTable', table)
    const memory = bytesOf(optionsOf(options, OVER_KEYS).memory, 'options.memory')
    const state = tableStateOf(table)
    state.check('open')
    const { engine, opened, rows } = state
    const number = connect().swapOver(opened.table, memory)
    return new SwapStore(new SwapState('store', engine, opened.files[0], number), undefined, rows)
  }

  /** The directory, as it was given; `undefined` for a store over a table. */
  get directory(): string | undefined {
    return this.#directory
  }

  /**
   * Accepts a new version of a tensor: copies it, and writes it behind the program. The promise settles when its memory is yours
   * again. Leases of the version before keep that. Waits for room, and for a lease that changes the tensor.
   *
   * With `pin`, it stays in memory until it is unpinned. With `convert`, it gets another element type on its way. With `adopt`, its
   * memory is not copied, and is the store's from then on.
   *
   * @throws `ERR_DEEPRING_BUDGET` if it, with what is pinned, is larger than the budget; `ENOSPC` if the file has no room for it;
   * `ERR_DEEPRING_DETACHED`; `ERR_DEEPRING_INVALID` if the store only reads; the error of an earlier write of this tensor, and then
   * this version was not accepted. `ERR_DEEPRING_INVALID_ARG_VALUE` if its memory cannot be adopted: then it is still yours.
   *
   * @example
   * ```ts
   * import { allocateTensor } from 'deepring'
   * import { openSwap } from 'deepring/swap'
   *
   * const store = await openSwap('swap', { memory: 1 << 20, create: true })
   * await store.put('half', { dtype: 'F32', shape: [1], data: new Float32Array([1.5]) }, { convert: 'BF16', pin: true })
   * const layer = allocateTensor('F32', [1000])
   * await store.put('layer', layer, { adopt: true })
   * console.log(layer.data.length, store.info('half')?.byteLength) // 0 2
   * await store.close()
   * ```
   */
  async put(name: string, tensor: TensorLike, options?: SwapPutOptions): Promise<void> {
    return this.#put([[checkTensorName(name, 'name'), tensor]], options)
  }

  /**
   * The same for several, one after the other. After an error, those before were accepted.
   *
   * @throws As {@link SwapStore.put}.
   */
  async putMany(tensors: NamedTensors, options?: SwapPutOptions): Promise<void> {
    return this.#put(tensors, options)
  }

  async #put(tensors: NamedTensors, options: SwapPutOptions | undefined): Promise<void> {
    const given = optionsOf(options, PUT_KEYS)
    const list = tensorsOf(tensors)
    const columns = columnsOf(list.declarations, 'tensors')
    for (const [nth, { dtype, shape }] of list.declarations.entries()) bytesOfTensor(dtype, shape, `tensors[${nth}]`)
    const request = putRequestOf(given, list.declarations)
    const signal = signalOf(given.signal)
    this.#state.check('put')
    const stage = (id: number, store: number): void => connect().putSwap(id, store, columns, list.views, request)
    const asked = { call: 'put', stage, finish: nothing, signal }
    if (!request.adopt) return lent(list, this.#state.ask(this, { ...asked, holds: list.views }))
    return afterUses(memoriesOf(list), async () => {
      this.#state.check('put')
      return this.#state.ask(this, asked)
    })
  }

  /**
   * A lease that reads a tensor. Waits for room, and for a lease that changes it.
   *
   * With `slice`, it is a lease of that part, in memory of its own: of the budget it takes the bytes of the slice. They alone are read
   * from the drive, unless the whole tensor is in memory or on its way. The tensor is free meanwhile, to be changed too. A store
   * that keeps checksums cannot verify a part of a tensor: a slice is as it was read.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ERR_DEEPRING_BUDGET` if the tensor, with what is pinned, is larger than the budget;
   * `ERR_DEEPRING_CHECKSUM`, `ERR_DEEPRING_EOF`, `EIO`, ..., which name the tensor; `ERR_DEEPRING_SLICE` if the tensor has no such
   * slice.
   *
   * @example
   * ```ts
   * import { openSwap } from 'deepring/swap'
   *
   * const store = await openSwap('swap', { memory: 1 << 20, create: true })
   * await store.put('x', { dtype: 'U8', shape: [3, 2], data: new Uint8Array([0, 1, 2, 3, 4, 5]) })
   * const column = await store.get('x', { slice: [null, [1, 2]] })
   * console.log(column.shape, column.data) // [ 3, 1 ] Uint8Array(3) [ 1, 3, 5 ]
   * await column.close()
   * await store.close()
   * ```
   */
  async get(name: string, options?: SwapGetOptions): Promise<AnySwapLease> {
    checkTensorName(name, 'name')
    const { slice, signal } = optionsOf(options, GET_KEYS)
    const [lease] = await (slice === undefined ? this.#lease([name], { signal }) : this.#slice(name, slice, signal))
    return lease as AnySwapLease
  }

  #slice(name: string, slice: unknown, signal: AbortSignal | undefined): Promise<AnySwapLease[]> {
    const numbers = sliceNumbersFor(name, slice)
    const stage = (id: number, store: number): void => connect().getSwapSlice(id, store, name, numbers)
    return this.#leases([name], false, { signal }, 'get', stage)
  }

  /**
   * The same for several at once, in the order of the names: all fit together, or it waits.
   *
   * @throws As {@link SwapStore.get}.
   */
  async getMany(names: Iterable<string>, options?: SignalOptions): Promise<AnySwapLease[]> {
    return this.#lease(names, options)
  }

  #lease(names: unknown, options: SignalOptions | undefined): Promise<AnySwapLease[]> {
    const { list, text, bytes } = namesOf(names)
    const stage = (id: number, store: number): void => connect().getSwap(id, store, text, bytes)
    return this.#leases(list, false, options, 'get', stage)
  }

  /**
   * A lease that can change a tensor: its bytes are the newest version once it is closed, and forgotten if it is disposed. Waits
   * until no other lease has it, and until the version before is on the drive.
   *
   * @throws As {@link SwapStore.get}; `ENOSPC` if a durable store has no room for a new version; the error of the version before if
   * that cannot be written, which is tried once more; `ERR_DEEPRING_INVALID` if the store only reads.
   */
  async getMut(name: string, options?: SignalOptions): Promise<AnySwapLease> {
    checkTensorName(name, 'name')
    const stage = (id: number, store: number): void => connect().getSwapMut(id, store, name)
    const [lease] = await this.#leases([name], true, options, 'get', stage)
    return lease as AnySwapLease
  }

  /**
   * A lease of a new version, all zeros, for bytes that are made in place. It exists once it is closed.
   *
   * @throws As {@link SwapStore.put}.
   */
  async lease<D extends DType>(
    name: string,
    dtype: D,
    shape: readonly number[],
    options?: SignalOptions,
  ): Promise<SwapLease<D>> {
    checkTensorName(name, 'name')
    checkDtype(dtype)
    if (!Array.isArray(shape)) throw invalidType('shape', 'an array', shape)
    bytesOfTensor(dtype, shape, 'tensor')
    const extents = Float64Array.from(shape)
    const stage = (id: number, store: number): void => connect().leaseSwap(id, store, name, dtype, extents)
    const [lease] = await this.#leases([name], true, options, 'put', stage)
    return lease as unknown as SwapLease<D>
  }

  #leases(
    names: readonly string[],
    writable: boolean,
    options: SignalOptions | undefined,
    call: string,
    stage: (id: number, store: number) => void,
  ): Promise<AnySwapLease[]> {
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check(call)
    const finish = (_operation: Operation, { detail }: RecordView): AnySwapLease[] =>
      (detail as SwapLeased[]).map((leased, nth) => {
        const name = names[nth] as string
        return new SwapLease(name, this.#dtypeOf(name, leased), leased, writable, this) as AnySwapLease
      })
    return this.#state.ask(this, { call, stage, finish, signal, discard })
  }

  /**
   * Reads a tensor into memory of exactly its size. That takes nothing of the budget, and what is in memory stays there.
   *
   * @throws As {@link SwapStore.get}; `ERR_DEEPRING_INVALID` if the memory has another size; `ERR_DEEPRING_DETACHED`.
   */
  async getInto(name: string, buffer: Bytes, options?: SignalOptions): Promise<void> {
    checkTensorName(name, 'name')
    const view = viewOf(buffer, undefined, undefined)
    const length = view.byteLength
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check('get')
    const stage = (id: number, store: number): void => connect().getSwapInto(id, store, name, view)
    const given = { declarations: [{ name, dtype: 'U8', shape: [] }], views: [view], lengths: [length] }
    return lent(given, this.#state.ask(this, { call: 'get', stage, finish: nothing, signal, holds: [view] }), 'read')
  }

  /**
   * Says which tensors will probably be asked for. They are read while the drive has nothing better to do, and only into memory
   * that is free, or that has nothing of a plan. A name that does not exist is forgotten.
   */
  prefetch(names: Iterable<string>, options?: PrefetchOptions): void {
    const { text, bytes } = namesOf(names)
    const { expiresMs } = optionsOf(options, PREFETCH_KEYS)
    const expires = expiresMs === undefined ? EXPIRES_MS : integerOf(expiresMs, 'options.expiresMs', 0, 2 ** 31 - 1)
    this.#state.check('prefetch')
    connect().prefetchSwap(this.#state.number, text, bytes, expires)
  }

  /**
   * Says in which order tensors will be asked for. It takes the place of the plan before. They are read ahead in this order, and
   * what is used last is dropped first. A plan that is wrong costs time alone.
   */
  plan(names: Iterable<string>, options?: PlanOptions): void {
    const { text, bytes } = namesOf(names)
    const repeat = booleanOf(optionsOf(options, PLAN_KEYS).repeat, 'options.repeat', false)
    this.#state.check('plan')
    connect().planSwap(this.#state.number, text, bytes, repeat)
  }

  /**
   * Brings a tensor into memory, where it stays until it is unpinned as often.
   *
   * @throws As {@link SwapStore.get}.
   */
  async pin(name: string, options?: SignalOptions): Promise<void> {
    return this.#ask('pin', name, options, (id, store) => connect().pinSwap(id, store, name))
  }

  /** Takes a pin away. That there is none is no error. */
  unpin(name: string): void {
    checkTensorName(name, 'name')
    this.#state.check('unpin')
    connect().unpinSwap(this.#state.number, name)
  }

  /**
   * Drops a tensor from memory, once it is on the drive and no lease has it.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ERR_DEEPRING_INVALID` if it is pinned; the error of its write.
   */
  async evict(name: string, options?: SignalOptions): Promise<void> {
    return this.#ask('evict', name, options, (id, store) => connect().evictSwap(id, store, name))
  }

  /**
   * Removes a tensor, once no lease has it and nothing of it is on its way. The next flush makes that last.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ERR_DEEPRING_INVALID` if the store only reads.
   */
  async remove(name: string, options?: SignalOptions): Promise<void> {
    return this.#ask('remove', name, options, (id, store) => connect().removeSwap(id, store, name))
  }

  /**
   * Brings everything that was accepted to the drive, and makes it last: a store that is opened from here on has it. After a crash
   * too, unless a store that is not `durable` was written to in between. Waits for no lease: what is being changed is as it was
   * before.
   *
   * @throws The error of a write that was not reported; `ENOSPC`, `EIO`, ... The flush before holds then. After
   * `ERR_DEEPRING_UNCERTAIN`, a crash leaves either.
   */
  async flush(options?: SignalOptions): Promise<void> {
    return this.#ask('flush', '', options, (id, store) => connect().flushSwap(id, store))
  }

  /**
   * Flushes, and puts all tensors into a checkpoint in progress, under their names, as of the flush. Tensors of whole pages share the
   * blocks of the file system with the store where it can do that, and are not written again: the receipt of the commit counts
   * them as cloned. It takes memory for one tensor beside the budget. A durable store is written to meanwhile; of any other,
   * all that is brought stays in memory until the promise settles, and waits when that is a quarter of the budget.
   *
   * @throws As {@link SwapStore.flush}, and as `CheckpointWriter.put`; `ERR_DEEPRING_INVALID` if the store only reads. Do not commit
   * the checkpoint then.
   */
  async snapshot(writer: CheckpointWriter, options?: SignalOptions): Promise<void> {
    const stage = (id: number, into: number): void => connect().snapshotSwap(id, this.#state.number, into)
    return snapshot(this.#state, writer, options, stage)
  }

  #ask(
    call: string,
    name: string,
    options: SignalOptions | undefined,
    stage: (id: number, store: number) => void,
  ): Promise<void> {
    checkTensorName(name, 'name')
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check(call)
    return this.#state.ask(this, { call, stage, finish: nothing, signal })
  }

  /** What the newest version of a tensor is, and where; `undefined` if there is none. */
  info(name: string): SwapInfo | undefined {
    checkTensorName(name, 'name')
    this.#state.check('info')
    const found = connect().swapInfo(this.#state.number, name)
    if (found === null) return undefined
    const { shape, bytes, state } = found
    return Object.freeze({
      name,
      dtype: this.#dtypeOf(name, found),
      shape: Object.freeze(shape),
      byteLength: bytes,
      state,
    })
  }

  /** The names of all tensors, in their order. */
  names(): string[] {
    this.#state.check('names')
    return textsOf(connect().swapNames(this.#state.number))
  }

  /** What is in memory, and what was done so far. */
  stats(): SwapStats {
    this.#state.check('stats')
    return Object.freeze(connect().swapStats(this.#state.number))
  }

  /**
   * Waits for the calls, flushes, and closes the store. Another can open it then. A lease that is closed afterwards is forgotten.
   * Can be called again.
   *
   * @throws As {@link SwapStore.flush}; then the store is still open.
   */
  async close(): Promise<void> {
    await this.#state.close()
    leaked.unregister(this.#state)
  }

  /** Closes the store: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** The binding does not keep names of types that it does not know. */
  #dtypeOf(name: string, { dtype }: { readonly dtype?: string }): DType {
    return (dtype ?? this.#rows?.at(this.#rows.indexOf(name)).dtype ?? 'U8') as DType
  }

  static {
    brand('SwapStore', this.prototype, (store) => ({ directory: store.directory, closed: store.#state.closed }))
  }
}

function discard({ detail }: RecordView): void {
  for (const { lease } of detail as SwapLeased[]) connect().dropLease(lease)
}

/** The memory of tensors that are given away; each piece is given once. */
function memoriesOf({ declarations, views }: Given): ArrayBufferLike[] {
  const memories = new Set<ArrayBufferLike>()
  for (const [nth, view] of views.entries()) {
    // What has no bytes has no memory.
    if (view.byteLength === 0) continue
    const of = `The memory of the tensor ${quotedName(declarations[nth]?.name ?? '')}`
    if (!isGiveable(view))
      throw invalidValue('options.adopt', `${of} is not all that one allocation of the engine has returned.`, true)
    if (isLost(view.buffer)) throw invalidValue('options.adopt', `${of} is in use by a request that was lost.`, true)
    if (memories.has(view.buffer)) throw invalidValue('options.adopt', `${of} is that of another one, too.`, true)
    memories.add(view.buffer)
  }
  return [...memories]
}

/** Makes a call once no request uses these memories: at once, if none does. */
function afterUses(memories: readonly ArrayBufferLike[], call: () => Promise<void>): Promise<void> {
  let inUse = memories.length
  if (inUse === 0) return call()
  return new Promise((resolve, reject) => {
    for (const memory of memories)
      whenUnused(memory, () => {
        inUse -= 1
        if (inUse === 0) call().then(resolve, reject)
      })
  })
}
