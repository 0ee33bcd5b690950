/** A file whose tensors are written in any order, and in parts: {@link SafetensorsWriter}. */

import { signalOf } from '../core/abort.ts'
import { brand, Uncloneable } from '../core/brand.ts'
import { connect, detachedInFlight, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, waitedFor, type EngineState } from '../core/engine-state.ts'
import { closed, DeepringError, invalidType, outOfRange, quotedName } from '../core/errors.ts'
import { bytesOf, optionsOf, type SignalOptions } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import type { RecordView } from '../core/record.ts'
import { engineOf, engineStateOf } from '../engine/engine.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { checkTensorName, type Declaration } from './columns.ts'
import {
  bytesOf as bytesOfTensor,
  requestOf,
  WRITER_KEYS,
  type SaveReceipt,
  type WriterOptions,
} from './save-options.ts'
import { finishSaved } from './save.ts'
import { nothing } from './table-state.ts'

/** Options of `SafetensorsWriter.write`. */
export interface WriteTensorOptions extends SignalOptions {
  /** Where in the tensor the bytes begin, in bytes. Default 0. */
  start?: number | bigint | undefined
}

const WRITE_KEYS: ReadonlySet<string> = new Set(['start', 'signal'])

/** Writers that were collected: their files are removed. */
const leaked = new FinalizationRegistry<number>((writer) => connect().dropWriter(writer))

/** Marks the construction by `create`; never leaves this module. */
const MADE = Symbol('made')

/**
 * A safetensors file that is being written: all tensors are declared first, and their bytes come in any order, whole or in
 * parts, several at a time. For converters, which have their tensors one by one. Nothing is visible under the name before
 * `finish`. A writer that is not finished leaves what was there before.
 *
 * @example
 * ```ts
 * import { SafetensorsWriter } from 'deepring/safetensors'
 *
 * const layout = [
 *   { name: 'a', dtype: 'U8', shape: [2, 2] },
 *   { name: 'b', dtype: 'U8', shape: [2] },
 * ]
 * const writer = await SafetensorsWriter.create('model.safetensors', layout)
 * await writer.write('b', new Uint8Array([5, 6]))
 * await writer.write('a', new Uint8Array([3, 4]), { start: 2 }) // the second row
 * await writer.write('a', new Uint8Array([1, 2]))
 * const { bytes } = await writer.finish()
 * console.log(bytes) // 4102
 * ```
 */
export class SafetensorsWriter extends Uncloneable {
  readonly #engine: EngineState
  /** Its number in the binding; 0 once it is finished or aborted. */
  #number: number
  readonly #path: string
  /** Bytes of each tensor. */
  readonly #lengths: ReadonlyMap<string, number>
  readonly #writing = new Set<Promise<unknown>>()
  /** Bytes were written whose memory was detached meanwhile: they can be wrong. */
  #spoiled: unknown
  #ending: Promise<unknown> | undefined

  /** @internal */
  constructor(mark: symbol, engine: EngineState, number: number, path: string, lengths: ReadonlyMap<string, number>) {
    super()
    if (mark !== MADE) throw invalidType('mark', 'that of SafetensorsWriter.create', mark)
    this.#engine = engine
    this.#number = number
    this.#path = path
    this.#lengths = lengths
    leaked.register(this, number, this)
  }

  /**
   * Creates the file beside its target, with room for everything.
   *
   * @param layout - All tensors.
   * @throws `ERR_DEEPRING_INVALID_ARG_VALUE` if they cannot be written; `ENOSPC`, `EACCES`, ... Nothing is left then.
   */
  static async create(
    path: FilePath,
    layout: readonly Declaration[],
    options?: WriterOptions,
  ): Promise<SafetensorsWriter> {
    const name = pathOf(path)
    const given = optionsOf(options, WRITER_KEYS)
    if (!Array.isArray(layout)) throw invalidType('layout', 'an array', layout)
    const list = layout as readonly Declaration[]
    const request = requestOf(list, 'layout', given, 0)
    const lengths = new Map(list.map(({ name: each, dtype, shape }) => [each, bytesOfTensor(dtype, shape, 'layout')]))
    const signal = signalOf(given.signal)
    const owner = engineOf(given.engine)
    const engine = engineStateOf(owner)
    checkOpen(engine, 'open')
    const finish = (_operation: Operation, { detail }: RecordView): SafetensorsWriter =>
      new SafetensorsWriter(MADE, engine, detail as number, name.text, lengths)
    const operation = new Operation(nextId(), 'open', finish, null, null, undefined)
    operation.owner = owner
    operation.extra.discard = ({ detail }) => runInBackground((id) => connect().abortWriter(id, detail as number))
    connect().createWriter(operation.id, engine.number, name.bytes, request)
    return waitedFor(engine, track(operation, signal))
  }

  /**
   * Writes bytes of a tensor. They belong to the engine until the promise settles. After a failure at the drive, the same
   * bytes can be written again.
   *
   * @param name - A tensor of the layout.
   * @param data - A view or a tensor.
   * @throws `ERR_DEEPRING_NOT_FOUND`; `ERR_DEEPRING_OUT_OF_RANGE` if the bytes leave the tensor; `ERR_DEEPRING_INVALID` if some of
   * them were given before; `ERR_DEEPRING_DETACHED`: then the writer can only be aborted; `EIO`, ...
   */
  async write(name: string, data: Bytes, options?: WriteTensorOptions): Promise<void> {
    const length = this.#lengths.get(checkTensorName(name, 'name'))
    if (length === undefined)
      throw new DeepringError(`There is no tensor ${quotedName(name)}`, {
        code: 'ERR_DEEPRING_NOT_FOUND',
        tensor: name,
      })
    const view = viewOf(data, undefined, undefined)
    const given = optionsOf(options, WRITE_KEYS)
    const start = given.start === undefined ? 0 : bytesOf(given.start, 'options.start')
    if (start + view.byteLength > length)
      throw outOfRange('options.start', `<= ${length - view.byteLength}, so that the bytes are in the tensor`, start)
    const signal = signalOf(given.signal)
    this.#check('write')
    const operation = new Operation(nextId(), 'write', finishWrite, null, view, this.#path)
    operation.owner = this
    connect().writeTensor(operation.id, this.#number, name, view, start)
    const writing = waitedFor(this.#engine, track<void>(operation, signal))
    this.#writing.add(writing)
    try {
      await writing
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ERR_DEEPRING_DETACHED') this.#spoiled ??= error
      throw error
    } finally {
      this.#writing.delete(writing)
    }
  }

  /**
   * Waits for the writes, writes the header, and puts the file in the place of what was there.
   *
   * @throws `ERR_DEEPRING_INVALID` if bytes of a tensor were not written; `ENOSPC`, `EIO`, ...: then the file is removed, and
   * what was there is as it was. `ERR_DEEPRING_UNCERTAIN`: see `saveSafetensors`.
   */
  async finish(): Promise<SaveReceipt> {
    this.#check('finish')
    const ending = this.#finish()
    this.#ending = ending
    return ending
  }

  async #finish(): Promise<SaveReceipt> {
    const number = this.#take()
    await Promise.allSettled(this.#writing)
    if (this.#spoiled !== undefined) {
      await this.#end((id) => connect().abortWriter(id, number), nothing)
      throw this.#spoiled
    }
    return this.#end((id) => connect().finishWriter(id, number), finishSaved)
  }

  /** Waits for the writes, and removes the file. Nothing happens if the writer has ended. */
  async abort(): Promise<void> {
    if (this.#number === 0) {
      // An end that is in progress is waited for; whether it succeeds is reported where it was begun.
      await this.#ending?.catch(nothing)
      return
    }
    const ending = this.#abort()
    this.#ending = ending
    return ending
  }

  async #abort(): Promise<void> {
    const number = this.#take()
    await Promise.allSettled(this.#writing)
    await this.#end((id) => connect().abortWriter(id, number), nothing)
  }

  /** Aborts, unless it is finished: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.abort()
  }

  #take(): number {
    const number = this.#number
    this.#number = 0
    leaked.unregister(this)
    return number
  }

  #end<T>(stage: (id: number) => void, finish: (operation: Operation, record: RecordView) => T): Promise<T> {
    const operation = new Operation(nextId(), 'commit', finish, null, null, undefined)
    operation.owner = this
    stage(operation.id)
    return waitedFor(this.#engine, track<T>(operation, null))
  }

  #check(syscall: string): void {
    if (this.#number === 0) throw closed('writer', syscall, this.#path)
    checkOpen(this.#engine, syscall)
  }

  static {
    brand('SafetensorsWriter', this.prototype, (writer) => ({
      path: writer.#path,
      tensors: writer.#lengths.size,
      ended: writer.#number === 0,
    }))
  }
}

function finishWrite(operation: Operation): void {
  if (operation.view?.byteLength !== operation.requested) throw detachedInFlight(operation, 'write')
}
