/**
 * What the binding is to the facade: {@link Native}. backend.ts finds it; lib/node has the same over node:fs.
 *
 * Only flat and cheap values cross: numbers, and memory as `Uint8Array`, of which the binding takes address and length. Every
 * asynchronous call has an `id` and returns nothing; its outcome comes as a record from {@link Native.drain}. The caller
 * must keep the memory of a call referenced until its record has been drained, and after `ERR_DEEPRING_LOST` forever,
 * because the kernel can still write to it.
 */

import type { BeginRequest } from './checkpoints.ts'
import type { Failure, OpenedShared, ReplaceRequest } from './record.ts'
import type {
  SwapperRequest,
  SwapperStatistics,
  SwapPutRequest,
  SwapRequest,
  SwapStatistics,
  SwapTensor,
} from './swaps.ts'
import type { SaveRequest, Selected, TableRow, TableRows, TensorColumns, Texts } from './tensors.ts'

/** Settings of an engine; absent ones take the engine's defaults. */
export interface EngineConfig {
  backend?: 'uring' | 'threads'
  queueDepth?: number
  blockSize?: number
  inFlightBytes?: number
  window?: 'auto' | 'fixed'
  maxQueued?: number
  threads?: number
  profile?: boolean
}

/** Limits below the device's, for the requests that name a handle; 0 stands for the engine's default. */
export interface HandleLimits {
  queueDepth: number
  blockSize: number
  singleSubmit: boolean
  refillWhenEmpty: boolean
  /** See `PRIORITY` of record.ts, also below. */
  priority: number
}

/** One environment's session with the engine. */
export interface Native {
  /** Sets the function to call, on this thread, when records wait. Once per environment. */
  attach(wake: () => void): void
  /** Writes whole records, of as many requests as it has room for, and returns their number; 0 when none is left. */
  drain(records: Float64Array): number
  /** The detail of a drained record. Only once. */
  detail(id: number): unknown
  /**
   * Submits the first `count` transfers of `staged` (see `STAGED` of record.ts), in their order, and wakes the drivers.
   * `views` has the memory of each, and in front of it the path of one by path.
   */
  flush(staged: Float64Array, views: readonly (Uint8Array | undefined)[], count: number): void
  /**
   * Submits a call with many ranges (`numbers`: see `MANY` of record.ts), and wakes the driver. The lists are the bytes of
   * typed arrays, which are copied; each has a number of every range, or none. The record's detail is a `Many`, also of a
   * failure, and of ranges that do not lie in `view`; there is none if all came and nothing else was asked for.
   */
  many(
    numbers: Float64Array,
    view: Uint8Array,
    positions: Uint8Array,
    lengths: Uint8Array,
    offsets: Uint8Array,
    expected: Uint8Array,
  ): void
  /** Wakes the drivers, and blocks this thread until the records of all these ids can be drained. */
  block(ids: Float64Array): void
  /**
   * Requests an early end of all these, and of the transfers that were staged with this cancellation if it is not 0. Their
   * records come in any case.
   */
  cancel(ids: Float64Array, cancellation: number): void

  /** @throws an object with a `failure`. */
  defaultEngine(): number
  /** @throws an object with a `failure`. */
  createEngine(config: EngineConfig): number
  closeEngine(id: number, engine: number): void
  engineInfo(id: number, engine: number, path: Uint8Array | null): void
  /** The public `Stats`. */
  engineStats(engine: number): unknown
  engineTrim(engine: number): void
  /** Blocks in flight and bytes per block. Answers at once. */
  engineLimits(engine: number): { queueDepth: number; blockSize: number }
  createHandle(engine: number, limits: HandleLimits): number
  freeHandle(handle: number): void

  /** For flags and direct see record.ts. The detail is an `Opened`. */
  open(
    id: number,
    engine: number,
    path: Uint8Array,
    flags: number,
    direct: number,
    mode: number,
    syncDirectory: boolean,
    priority: number,
  ): void
  /**
   * Opens a group of transfers. Its record has this id and comes after {@link Native.closeGroup}, when all members have
   * settled; if some failed, its detail is an array of `MemberFailure`. Canceling it cancels all members.
   */
  openGroup(id: number): void
  closeGroup(id: number): void
  /** Keeps what a path means now, also if the working directory changes. The number is for `verify`, once. */
  keepName(path: Uint8Array): number
  dropName(name: number): void
  /** Compares through a separate descriptor; by name if `file` is 0. */
  verify(id: number, engine: number, name: number, file: number, view: Uint8Array, position: number): void
  sync(id: number, file: number, dataOnly: boolean): void
  truncate(id: number, file: number, size: number): void
  /** The detail is a `Stat`. */
  stat(id: number, file: number): void
  /**
   * The checksum of a range: up to the end of the file if `length` is negative. In the record; with a `chunk` above 0,
   * the detail is a `Uint32Array` with one for each.
   */
  checksum(id: number, file: number, position: number, length: number, chunk: number, priority: number): void
  /** The detail is a `Float64Array` of the bytes of the hash. Over `node:fs` there is none: a worker hashes. */
  sha256?(id: number, file: number, length: number): void
  /** Appends. The bytes are in the record. */
  append(id: number, file: number, view: Uint8Array): void
  allocateRange(id: number, file: number, position: number, length: number): void
  /** Lets a range of `to` share the space of `start` to `end` of `from`. */
  cloneRange(id: number, to: number, position: number, from: number, start: number, end: number): void
  /** The detail is a `Float64Array`: where each part with data begins and ends, in turn, of 4096 parts at most. */
  dataRanges(id: number, file: number, start: number, end: number): void
  /** Gives `to` the times of `from`, and its permission bits. */
  takeMetadata(id: number, to: number, from: number, mode: boolean): void
  /** The detail is a `Replacing`. */
  replaceFile(id: number, engine: number, path: Uint8Array, request: ReplaceRequest): void
  /** Its file must be closed. */
  commitReplacement(id: number, replacement: number): void
  abandonReplacement(id: number, replacement: number): void
  /** The flags of a record (`FLAG` of record.ts), for what moves the file's bytes now. */
  fileFlags(file: number): number
  fileDescriptor(file: number): number
  /** A token by which other threads of the process open the file. */
  shareFile(file: number): number
  /** Nothing if all threads have closed it. */
  openShared(token: number): OpenedShared | null
  /** Waits for the requests on the file. Its number is not valid from now on. */
  close(id: number, file: number): void

  /** Page-aligned memory. @throws an object with a `failure`. */
  allocate(engine: number, bytes: number, zeroed: boolean): Uint8Array<ArrayBuffer>
  /** Detaches the view's ArrayBuffer. Its memory returns to the pool when no request uses it. */
  release(view: Uint8Array): void
  /** Whether the whole view is memory of {@link Native.allocate}. */
  isAllocated(view: Uint8Array): boolean

  /** The CRC-32C of bytes that follow those of `seed`, on this thread. */
  crc32C(view: Uint8Array, seed: number): number
  /** The same on a thread of the engine. In the record. */
  crc32CLater(id: number, engine: number, view: Uint8Array, seed: number): void
  crc32CCombine(a: number, b: number, lengthOfB: number): number

  /** Writes how many bytes of a job are done, and of how many. */
  progress(id: number, bytes: Float64Array): void
  /** Takes over memory by its number. @throws what the runtime throws for a view that it cannot have. */
  takeMemory(memory: number): Uint8Array<ArrayBuffer>
  /** Gives back memory that was not taken over. */
  dropMemory(memory: number): void

  /** Paths are their bytes, one behind the other. The detail is an `OpenedTable`. */
  openSafetensors(
    id: number,
    engine: number,
    paths: Uint8Array,
    pathLengths: Uint32Array,
    one: boolean,
    direct: number,
    strict: boolean,
    maxHeaderBytes: number,
  ): void
  /** `places` has all positions, then all lengths. The detail is an `OpenedTable`. */
  openRows(
    id: number,
    engine: number,
    names: string,
    nameBytes: Uint32Array,
    dtypes: string[],
    dtypeOf: Uint32Array,
    ranks: Uint32Array,
    extents: Float64Array,
    paths: Uint8Array,
    pathLengths: Uint32Array,
    pathOf: Uint32Array,
    places: Float64Array,
    direct: number,
  ): void
  /** Closes the files. What is looked up in the table is there until `dropTable`. */
  closeTable(id: number, table: number): void
  dropTable(table: number): void
  tableNames(table: number, from: number, count: number, indices: Uint32Array | null): Texts
  tableRow(table: number, index: number): TableRow
  tableRows(table: number, from: number, count: number): TableRows
  /** -1 if there is none. */
  tableFind(table: number, name: string): number
  tableSelect(table: number, indices: Uint32Array): Selected
  /** Keys and values in turn. */
  tableMetadata(table: number): Texts
  tableStrays(table: number, missing: boolean): Texts
  /** The detail is a `Verified`. */
  verifyTable(id: number, table: number): void

  /**
   * Loads tensors, all if `indices` is null. Slices are numbers: of each the index, the number of dimensions, and where each
   * begins and ends, or -1 twice. Those of `into` go to `views`. `verify` null is the default of the files. The detail is a
   * `LoadedTensors` of the others.
   */
  loadTensors(
    id: number,
    table: number,
    indices: Uint32Array | null,
    slices: Float64Array,
    groupBytes: number,
    verify: boolean | null,
    into: Uint32Array,
    views: readonly Uint8Array[],
  ): void
  openStream(
    table: number,
    indices: Uint32Array | null,
    slices: Float64Array,
    memory: number,
    inOrder: boolean,
    verify: boolean | null,
  ): number
  /** The detail is a `StreamGroup`; there is none at the end. */
  nextGroup(id: number, stream: number): void
  /** Copies a tensor out of its group. The detail is the number of its memory. */
  keepTensor(id: number, stream: number, view: Uint8Array, name: string): void
  closeStream(stream: number): void

  /** The detail is a `WrittenSave`. */
  saveTensors(id: number, engine: number, path: Uint8Array, request: SaveRequest, views: readonly Uint8Array[]): void
  /** The detail is a `Saved`. */
  commitSave(id: number, written: number): void
  abandonSave(id: number, written: number): void
  /** The detail is the number of the writer. */
  createWriter(id: number, engine: number, path: Uint8Array, request: SaveRequest): void
  writeTensor(id: number, writer: number, name: string, view: Uint8Array, start: number): void
  /** The detail is a `Saved`. */
  finishWriter(id: number, writer: number): void
  abortWriter(id: number, writer: number): void
  dropWriter(writer: number): void

  /** 0 keeps all generations, or none for its step. The detail is the number of the store. */
  openStore(id: number, engine: number, path: Uint8Array, create: boolean, keepLast: number, keepEvery: number): void
  closeStore(id: number, store: number): void
  /** The detail is a `BegunCheckpoint`. */
  beginCheckpoint(id: number, store: number, request: BeginRequest): void
  /** The same. */
  joinCheckpoint(id: number, store: number, token: string, writer: number, staging: number, direct: number): void
  /** How many writers the generation of a token has; 0 if it is not a token. */
  writersOf(token: string): number
  /** The detail is an array of numbers. */
  listGenerations(id: number, store: number): void
  /** The detail is an `OpenedCheckpoint`. */
  openGeneration(id: number, store: number, generation: number): void
  /** The detail is a `LatestCheckpoint`. */
  openLatest(id: number, store: number, all: boolean): void
  pinGeneration(id: number, store: number, generation: number, pinned: boolean): void
  /** The detail is 1 or 0. */
  isGenerationPinned(id: number, store: number, generation: number): void
  removeGeneration(id: number, store: number, generation: number): void
  /** The detail is a `Collected`. */
  collectGenerations(id: number, store: number): void
  /** Of a generation that is open as a table. */
  copyGeneration(id: number, table: number, path: Uint8Array): void
  /** `within` has the extents of the whole tensor, then where the piece begins. */
  putTensor(
    id: number,
    writer: number,
    name: string,
    dtype: string,
    shape: Float64Array,
    within: Float64Array | null,
    group: string,
    view: Uint8Array,
  ): void
  /** `watched`: from now on, the jobs of the writer report their progress. */
  putTensors(
    id: number,
    writer: number,
    columns: TensorColumns,
    group: string,
    views: readonly Uint8Array[],
    watched: boolean,
  ): void
  /** The detail is a `Reused`. */
  takeOver(id: number, writer: number, name: string, isGroup: boolean): void
  /** The writer ends. The detail is a number for `publishCheckpoint` or `abandonCheckpoint`. */
  prepareCheckpoint(id: number, writer: number, meta: string | null): void
  /** The detail is a `Committed`. */
  publishCheckpoint(id: number, prepared: number): void
  abandonCheckpoint(id: number, prepared: number): void
  abortCheckpoint(id: number, writer: number): void
  dropCheckpointWriter(writer: number): void

  /** The detail is the number of the store. */
  openSwap(id: number, engine: number, path: Uint8Array, request: SwapRequest): void
  /** A store that reads the tensors of a table that is open: its number. */
  swapOver(table: number, memory: number): number
  /** On failure it is still open. Its number is valid until `dropSwap`. */
  closeSwap(id: number, store: number): void
  dropSwap(store: number): void
  /** With `adopt`, the views are detached when this returns. */
  putSwap(
    id: number,
    store: number,
    columns: TensorColumns,
    views: readonly Uint8Array[],
    request: SwapPutRequest,
  ): void
  /** The detail is an array of `SwapLeased`, in the order of the names. */
  getSwap(id: number, store: number, names: string, nameBytes: Uint32Array): void
  /** The same of a slice: of each dimension where it begins and ends, or -1 twice for all of it. */
  getSwapSlice(id: number, store: number, name: string, slice: Float64Array): void
  /** The same of one tensor, to be changed. */
  getSwapMut(id: number, store: number, name: string): void
  /** The same of a new one. */
  leaseSwap(id: number, store: number, name: string, dtype: string, shape: Float64Array): void
  getSwapInto(id: number, store: number, name: string, view: Uint8Array): void
  prefetchSwap(store: number, names: string, nameBytes: Uint32Array, expiresMs: number): void
  planSwap(store: number, names: string, nameBytes: Uint32Array, repeat: boolean): void
  pinSwap(id: number, store: number, name: string): void
  unpinSwap(store: number, name: string): void
  evictSwap(id: number, store: number, name: string): void
  removeSwap(id: number, store: number, name: string): void
  flushSwap(id: number, store: number): void
  snapshotSwap(id: number, store: number, writer: number): void
  swapInfo(store: number, name: string): SwapTensor | null
  swapNames(store: number): Texts
  swapStats(store: number): SwapStatistics

  /** The detail is the number of the swapper. */
  openSwapper(id: number, engine: number, path: Uint8Array, request: SwapperRequest): void
  /** On failure it is still open. Its number is valid until `dropSwapper`. */
  closeSwapper(id: number, swapper: number): void
  dropSwapper(swapper: number): void
  initializeGroup(id: number, swapper: number, group: string, parts: string[], views: readonly Uint8Array[]): void
  initializeGroupFrom(
    id: number,
    swapper: number,
    group: string,
    table: number,
    parts: string[],
    tensors: string[],
    convert: boolean,
  ): void
  putGradient(id: number, swapper: number, group: string, offset: number, view: Uint8Array): void
  flushGradients(id: number, swapper: number): void
  flushSwapper(id: number, swapper: number): void
  snapshotSwapper(id: number, swapper: number, writer: number): void
  restoreSwapper(id: number, swapper: number, table: number): void
  resetGroup(swapper: number, group: string, parts: string[]): Failure | null
  /** Over all groups, if `order` is null: the number of the step. */
  beginStep(swapper: number, order: string[] | null): number | Failure
  /** The detail is a `GroupLeased`; there is none at the end. */
  nextGroupLease(id: number, step: number): void
  endStep(step: number): void
  swapperStats(swapper: number): SwapperStatistics

  /**
   * A part of the memory of a lease, which has bytes: that of a tensor, or of a group the parameters, the states and the gradient.
   * Once for each. @throws what the runtime throws for a view that it cannot have.
   */
  leaseMemory(lease: number, part: number): Uint8Array<ArrayBuffer>
  /** `views` are the parts of its memory that were looked at; they are detached. Of a group, some parts can be written. */
  endLease(lease: number, write: boolean | string[], views: (Uint8Array | null | undefined)[]): Failure | null
  dropLease(lease: number): void
  convert(id: number, engine: number, from: string, source: Uint8Array, to: string, target: Uint8Array): void
}
