/** Loads: all tensors of a selection, or one, into memory at once. */

import { signalOf } from '../core/abort.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { detached } from '../core/errors.ts'
import { booleanOf, bytesOf, integerOf, optionsOf, wordOf, type SignalOptions } from '../core/options.ts'
import { onProgressOf, reporting, type ProgressOptions } from '../core/progress.ts'
import type { RecordView } from '../core/record.ts'
import type { LoadedTensors } from '../core/tensors.ts'
import { checkViewable } from '../memory/buffer.ts'
import { sumLater } from '../memory/checksum.ts'
import { LentMemory } from '../memory/lease.ts'
import type { Bytes } from '../memory/view.ts'
import { destinationOf, destinationsOf, type Destinations } from './into.ts'
import { groupsOf, TensorMap, tensorOf } from './map.ts'
import { indicesOf, type Choice, type Selection } from './selection.ts'
import { NO_SLICES, sliceNumbers, sliceOf, slicesOf, type Slice, type Slices } from './slices.ts'
import type { TableState } from './table-state.ts'
import type { AnyTensor } from './tensor.ts'

/** Options of `load`. */
export interface LoadOptions extends SignalOptions, ProgressOptions {
  /** Of these tensors of the selection, a slice is read. */
  slices?: ReadonlyMap<string, Slice> | undefined
  /**
   * These tensors of the selection are read into memory of the caller, of exactly their size: any view, or a tensor. It
   * belongs to the engine until the promise settles.
   */
  into?: ReadonlyMap<string, Bytes> | undefined
  /** Bytes that share one piece of memory, and so the end of its life. A larger tensor has its own. Default 64 MiB. */
  groupBytes?: number | bigint | undefined
  /**
   * True: a whole tensor must have the checksum that its file states, if it states one, and of a checkpoint each MiB that is
   * read whole. Default false; of a checkpoint, true.
   */
  verify?: boolean | undefined
}

/** Options of `tensor`. */
export interface TensorOptions extends SignalOptions {
  /** A part of the tensor. Default: all of it. */
  slice?: Slice | undefined
  /** Memory of exactly its size to read into, which belongs to the engine until the promise settles. */
  into?: Bytes | undefined
  /** `'crc32c'`: `checksum` of the tensor has the CRC-32C of its bytes. */
  checksum?: 'crc32c' | undefined
  /** As `verify` of `load`. */
  verify?: boolean | undefined
}

const LOAD_KEYS: ReadonlySet<string> = new Set(['slices', 'into', 'groupBytes', 'verify', 'signal', 'onProgress'])
const TENSOR_KEYS: ReadonlySet<string> = new Set(['slice', 'into', 'checksum', 'verify', 'signal'])

const GROUP_BYTES = 64 << 20

/** What a load brings. */
interface Call {
  readonly state: TableState
  readonly slices: Slices
  readonly into: Destinations
}

/** See `TensorTable.load`. */
export function load(
  state: TableState,
  selection: Selection | Choice | undefined,
  options?: LoadOptions,
): Promise<TensorMap> {
  const { rows } = state
  const given = optionsOf(options, LOAD_KEYS)
  const indices = indicesOf(rows, selection)
  const slices = slicesOf(rows, given.slices)
  const into = destinationsOf(rows, given.into, indices, slices)
  const groupBytes = given.groupBytes === undefined ? GROUP_BYTES : bytesOf(given.groupBytes, 'options.groupBytes')
  integerOf(groupBytes, 'options.groupBytes', 1, Number.MAX_SAFE_INTEGER)
  const verify = verifyOf(given.verify)
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const { id, loading } = start({ state, slices, into }, indices, groupBytes, verify, signal)
  return state.run(
    reporting(
      () => id,
      onProgress,
      loading,
      ({ receipt }) => receipt.bytes,
      (map) => map[Symbol.dispose](),
    ),
  )
}

/** See `TensorTable.tensor`. */
export async function loadOne(state: TableState, name: string, options?: TensorOptions): Promise<AnyTensor> {
  const { rows } = state
  const given = optionsOf(options, TENSOR_KEYS)
  if (given.checksum !== undefined) wordOf(given.checksum, 'options.checksum', ['crc32c'])
  const index = rows.indexOf(name)
  const slices = given.slice === undefined ? NO_SLICES : new Map([[index, sliceOf(rows.at(index), given.slice)]])
  const into = new Map(given.into === undefined ? [] : [[index, destinationOf(rows, index, given.into, slices)]])
  const verify = verifyOf(given.verify)
  const signal = signalOf(given.signal)
  const { loading } = start({ state, slices, into }, Uint32Array.of(index), Number.MAX_SAFE_INTEGER, verify, signal)
  const map = await state.run(loading)
  const tensor = map.get(name) as AnyTensor
  if (given.checksum === undefined) return tensor
  try {
    const checksum = await sumLater(state.engine, tensor.bytes, 0)
    return Object.assign(tensor, { checksum })
  } catch (error) {
    tensor[Symbol.dispose]()
    throw error
  }
}

/** Whether to verify; null if that is left to the files. */
export function verifyOf(value: unknown): boolean | null {
  return value === undefined ? null : booleanOf(value, 'options.verify', false)
}

function start(
  call: Call,
  indices: Uint32Array | null,
  groupBytes: number,
  verify: boolean | null,
  signal: AbortSignal | null,
): { readonly id: number; readonly loading: Promise<TensorMap> } {
  const { state, slices, into } = call
  state.check('read')
  const views = [...into.values()]
  const operation = new Operation(nextId(), 'load', finish, call, null, undefined)
  if (views.length > 0) operation.extra.holds = views
  operation.owner = state
  operation.extra.discard = ({ detail }) => (detail as LoadedTensors).memories.forEach(drop)
  const numbers = sliceNumbers(slices)
  connect().loadTensors(
    operation.id,
    state.opened.table,
    indices,
    numbers,
    groupBytes,
    verify,
    Uint32Array.from(into.keys()),
    views,
  )
  return { id: operation.id, loading: track(operation, signal) }
}

function finish({ source }: Operation, { detail }: RecordView): TensorMap {
  const { state, slices, into } = source as Call
  const { memories, largest, receipt, ...places } = detail as LoadedTensors
  try {
    checkViewable(largest)
    const others = new Map<number, AnyTensor>()
    for (const [index, view] of into) {
      const info = state.rows.at(index)
      const tensor = tensorOf(info, slices, index, new LentMemory(view, 1), 0)
      if (view.byteLength !== tensor.byteLength)
        throw detached('The memory of a tensor was detached while it was read', { syscall: 'read', tensor: info.name })
      others.set(index, tensor)
    }
    return new TensorMap(state.rows, slices, places, groupsOf(memories, places), others, receipt)
  } catch (error) {
    memories.forEach(drop)
    throw error
  }
}

function drop(memory: number): void {
  if (memory !== 0) connect().dropMemory(memory)
}
