/** Tensors in open files: {@link TensorTable}. */

import { brand, Uncloneable } from '../core/brand.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { invalidType } from '../core/errors.ts'
import { signalOf } from '../core/abort.ts'
import { optionsOf, type SignalOptions } from '../core/options.ts'
import { onProgressOf, reporting, type ProgressOptions } from '../core/progress.ts'
import type { RecordView } from '../core/record.ts'
import type { Verified } from '../core/tensors.ts'
import type { TensorInfo } from './info.ts'
import { load, loadOne, type LoadOptions, type TensorOptions } from './load.ts'
import type { TensorMap } from './map.ts'
import { select, type Choice, type Selection } from './selection.ts'
import { stream, type StreamOptions } from './stream.ts'
import { nothing, TableState } from './table-state.ts'
import type { AnyTensor } from './tensor.ts'

/** Options of `verify`. */
export interface VerifyOptions extends SignalOptions, ProgressOptions {}

/** Bytes that do not have their checksum. */
export interface Damage {
  /** What is damaged: a tensor, or the header of a file. */
  readonly part: 'tensor' | 'header'
  /** The name of the tensor; absent for a header. */
  readonly tensor?: string
  /** The file. */
  readonly path: string
  /** Where the bytes begin. */
  readonly position: number
  /** How many there are. */
  readonly length: number
  /** The CRC-32C that the file states. */
  readonly expected: number
  /** The CRC-32C that the bytes have. */
  readonly actual: number
}

/** What `verify` has found. */
export interface Verification {
  /** Whether everything has a checksum, and the right one. */
  readonly ok: boolean
  /** Tensors whose bytes have the checksum that their file states. */
  readonly verified: number
  /** Tensors whose files state none. */
  readonly unverifiable: number
  /** What does not have its checksum. */
  readonly damaged: readonly Damage[]
}

const VERIFY_KEYS: ReadonlySet<string> = new Set(['signal', 'onProgress'])

const leaked = new FinalizationRegistry<TableState>((state) => {
  if (state.closing !== undefined) return
  process.emitWarning(
    `Closing the files of tensors on garbage collection, '${state.opened.files[0] ?? ''}'. Close them with close() or \`await using\`.`,
    { type: 'DeepringWarning', code: 'DEEPRING_FILE_LEAKED' },
  )
  state.close().catch(nothing)
})

let stateIn: (table: TensorTable) => TableState

/**
 * Tensors in open files, to be looked up, loaded, streamed and verified. Made by `openSafetensors` and `tensorTable`. Close it
 * after use; tensors that were loaded stay.
 *
 * @example
 * ```ts
 * import { openSafetensors, saveSafetensors } from 'deepring/safetensors'
 *
 * await saveSafetensors('model.safetensors', {
 *   'layer.0.weight': { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) },
 *   'layer.0.bias': { dtype: 'F32', shape: [1], data: new Float32Array([3]) },
 * })
 * await using model = await openSafetensors('model.safetensors')
 * console.log(model.size, model.has('layer.0.bias'), [...model.names()].length) // 2 true 2
 * for await (const tensor of model.stream()) console.log(tensor.name, tensor.bytes.length)
 * ```
 */
export class TensorTable extends Uncloneable {
  readonly #state: TableState
  #files: readonly string[] | undefined

  /** @internal */
  constructor(state: TableState) {
    super()
    if (!(state instanceof TableState)) throw invalidType('state', 'what openSafetensors or tensorTable make', state)
    this.#state = state
    leaked.register(this, state, state)
  }

  static {
    stateIn = (table) => table.#state
  }

  /** How many tensors there are. */
  get size(): number {
    return this.#state.opened.count
  }

  /** Bytes of all tensors. */
  get bytes(): number {
    return this.#state.opened.bytes
  }

  /** Bytes of the largest tensor: the least memory with which all can be streamed. */
  get largest(): number {
    return this.#state.opened.largest
  }

  /** The files, as absolute paths, in the order of their tensors. */
  get files(): readonly string[] {
    this.#files ??= Object.freeze([...this.#state.opened.files])
    return this.#files
  }

  /** Whether there is a tensor of this name. */
  has(name: string): boolean {
    return this.#state.rows.find(checkName(name)) >= 0
  }

  /**
   * What the table says of a tensor.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`.
   */
  info(name: string): TensorInfo {
    const { rows } = this.#state
    return rows.at(rows.indexOf(checkName(name)))
  }

  /** The names, in the order of the files and in them of the bytes. */
  names(): IterableIterator<string> {
    return this.#state.rows.names()
  }

  /**
   * Some of the tensors. Reads nothing.
   *
   * @param choice - A pattern that names must match somewhere; a function that returns true for those that are wanted; or
   * names, of which each counts once.
   * @throws `ERR_DEEPRING_NOT_FOUND` for a name that is not there.
   */
  select(choice: Choice): Selection {
    return select(this.#state.rows, choice)
  }

  /**
   * Loads one tensor, or a slice of it.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND`, `ERR_DEEPRING_SLICE`; `ERR_DEEPRING_EOF` if the file was cut; `ERR_DEEPRING_CHECKSUM` with
   * `verify`; `EIO`, ...
   */
  async tensor(name: string, options?: TensorOptions): Promise<AnyTensor> {
    return loadOne(this.#state, checkName(name), options)
  }

  /**
   * Loads tensors, all of them at once: at the drive's speed, into memory that they share in groups.
   *
   * @param selection - Default: all.
   * @throws As {@link TensorTable.tensor}. Then nothing is left in memory.
   */
  async load(selection?: Selection | Choice, options?: LoadOptions): Promise<TensorMap> {
    return load(this.#state, selection, options)
  }

  /**
   * Streams tensors: reads ahead of the loop, and never has more than `memory` bytes of them.
   *
   * A tensor is valid until the loop goes on to one that was read later. Then its `data` throws `ERR_DEEPRING_RELEASED`, and
   * views that were taken out of it have length 0. `await tensor.keep()` makes its bytes the holder's until they are disposed;
   * they count against `memory`.
   *
   * @param selection - Default: all.
   * @throws `ERR_DEEPRING_BUDGET` from the first step if a tensor is larger than `memory`, and from a later one if so much was
   * kept that nothing can be read. Else as {@link TensorTable.tensor}.
   */
  stream(selection?: Selection | Choice, options?: StreamOptions): AsyncGenerator<AnyTensor, undefined> {
    return stream(this.#state, selection, options)
  }

  /**
   * Reads all tensors whose files state checksums, and the headers of these files, and compares.
   *
   * @throws `EIO`, ...: if something cannot be read. Damage is no error, but in the result.
   */
  async verify(options?: VerifyOptions): Promise<Verification> {
    const given = optionsOf(options, VERIFY_KEYS)
    const onProgress = onProgressOf(given.onProgress)
    const signal = signalOf(given.signal)
    const state = this.#state
    state.check('read')
    const operation = new Operation(nextId(), 'verify', finishVerify, null, null, undefined)
    operation.owner = this
    connect().verifyTable(operation.id, state.opened.table)
    const verifying = track<Found>(operation, signal)
    const total = ({ bytes }: Found): number => bytes
    const { found } = await state.run(reporting(() => operation.id, onProgress, verifying, total, nothing))
    return found
  }

  /** Closes the files, after the operations on them. Can be called again. */
  close(): Promise<void> {
    leaked.unregister(this.#state)
    return this.#state.close()
  }

  /** Closes the files: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** The state of a table. */
export function tableStateOf(table: TensorTable): TableState {
  return stateIn(table)
}

function checkName(name: unknown): string {
  if (typeof name !== 'string') throw invalidType('name', 'of type string', name)
  return name
}

interface Found {
  readonly found: Verification
  readonly bytes: number
}

function finishVerify(_operation: Operation, { detail }: RecordView): Found {
  const { ok, matching, unverifiable, damaged, bytes } = detail as Verified
  const parts = damaged.map((damage): Damage =>
    Object.assign({ part: damage.tensor === undefined ? ('header' as const) : ('tensor' as const) }, damage),
  )
  return { found: { ok, verified: matching, unverifiable, damaged: parts }, bytes }
}

/** What `console.log` shows of a table. */
export function shownOf(table: TensorTable): object {
  const { opened, closing } = stateIn(table)
  return { tensors: opened.count, bytes: opened.bytes, files: opened.files.length, closed: closing !== undefined }
}

brand('TensorTable', TensorTable.prototype, shownOf)
