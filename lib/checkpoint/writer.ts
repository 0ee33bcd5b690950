/** A generation in progress, or a part of one: {@link CheckpointWriter}. */

import { signalOf } from '../core/abort.ts'
import { brand, Uncloneable } from '../core/brand.ts'
import { connect } from '../core/completions.ts'
import { invalidType } from '../core/errors.ts'
import { optionsOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { viewOf, type TensorLike } from '../memory/view.ts'
import { checkTensorName } from '../safetensors/columns.ts'
import { checkToWrite, columnsToWrite } from '../safetensors/save-options.ts'
import { declarationOf, tensorsOf, type NamedTensors } from '../safetensors/save.ts'
import { finishReused, type Generation, type Reused } from './generation.ts'
import {
  GROUP,
  groupOf,
  metaOf,
  PUT_ALL_KEYS,
  PUT_KEYS,
  withinOf,
  type PutAllOptions,
  type PutOptions,
} from './options.ts'
import { WriterState } from './writer-state.ts'

let stateIn: (writer: CheckpointWriter) => WriterState

/**
 * A generation in progress. Made by `begin`, or by `join` as a part of one. Nothing is visible before the commit of the first
 * writer; if that does not come, all that was written is removed.
 *
 * Calls can overlap. If one fails at the drive, or is aborted, the checkpoint has failed, and so does the commit.
 *
 * @example
 * ```ts
 * import { openCheckpoints } from 'deepring/checkpoint'
 *
 * const store = await openCheckpoints('run-1', { create: true })
 * const row = (value: number) => ({ dtype: 'U8', shape: [1, 2], data: new Uint8Array(2).fill(value) })
 * const whole = { shape: [2, 2] }
 * const first = await store.begin({ writers: 2, step: 1000 })
 * const second = await store.join(first.token, 1) // in another thread or process
 * await first.put('table', row(1), { ...whole, start: [0, 0] })
 * await second.put('table', row(2), { ...whole, start: [1, 0] })
 * await second.commit() // its part is durable
 * first.meta = { loss: 0.25 }
 * const { number } = await first.commit() // everything is visible
 * const checkpoint = await store.open(number)
 * const table = await checkpoint.tensor('table')
 * console.log(table.shape, table.data) // [ 2, 2 ] Uint8Array(4) [ 1, 1, 2, 2 ]
 * await checkpoint.close()
 * await store.close()
 * ```
 */
export class CheckpointWriter extends Uncloneable {
  readonly #state: WriterState

  static {
    stateIn = (writer) => writer.#state
  }

  /** @internal */
  constructor(state: WriterState) {
    super()
    if (!(state instanceof WriterState)) throw invalidType('state', 'what begin or join make', state)
    this.#state = state
  }

  /** The number that the generation will have. */
  get generation(): number {
    return this.#state.generation
  }

  /** What others need to join: pass it to other threads or processes. */
  get token(): string {
    return this.#state.token
  }

  /** Its number among the writers: 0 is the first. */
  get writer(): number {
    return this.#state.writer
  }

  /**
   * What the program keeps with the generation: any JSON, of at most 16 MiB; `null` unless it is set. That of the first writer
   * counts.
   *
   * @throws `ERR_DEEPRING_INVALID_ARG_VALUE` for what is not JSON, or longer.
   */
  get meta(): unknown {
    return JSON.parse(this.#state.meta ?? 'null')
  }

  set meta(value: unknown) {
    this.#state.meta = metaOf(value, 'meta')
  }

  /**
   * Writes a tensor, or a piece of one. The promise settles when its memory is yours again: written, or copied while `staging`
   * lasts.
   *
   * @throws `ERR_DEEPRING_INVALID` if the name was put before, unless both are pieces, or a piece leaves its tensor;
   * `ERR_DEEPRING_DETACHED`; `ENOSPC`, `EIO`, ...
   */
  async put(name: string, tensor: TensorLike, options?: PutOptions): Promise<void> {
    const declaration = declarationOf(checkTensorName(name, 'name'), tensor, 'tensor')
    const { dtype, shape } = declaration
    if (!Array.isArray(shape)) throw invalidType('tensor.shape', 'an array', shape)
    checkToWrite(declaration, 'tensor')
    const view = viewOf(tensor, undefined, undefined)
    const given = optionsOf(options, PUT_KEYS)
    const group = groupOf(given.group ?? GROUP)
    const within = withinOf(given, shape.length)
    const signal = signalOf(given.signal)
    this.#state.check('write')
    const tensors = { declarations: [declaration], views: [view], lengths: [view.byteLength] }
    const extents = Float64Array.from(shape)
    return this.#state.put(tensors, signal, (id, writer) =>
      connect().putTensor(id, writer, name, dtype, extents, within, group, view),
    ).putting
  }

  /**
   * Writes many tensors at once, into files of their own: faster than one call for each. The promise settles when the memory of
   * all is yours again.
   *
   * @throws As {@link CheckpointWriter.put}.
   */
  async putAll(tensors: NamedTensors, options?: PutAllOptions): Promise<void> {
    const list = tensorsOf(tensors)
    const columns = columnsToWrite(list.declarations, 'tensors')
    const given = optionsOf(options, PUT_ALL_KEYS)
    const group = groupOf(given.group ?? GROUP)
    const signal = signalOf(given.signal)
    this.#state.check('write')
    return this.#state.put(list, signal, (id, writer) =>
      connect().putTensors(id, writer, columns, group, list.views, false),
    ).putting
  }

  /**
   * Takes over a tensor of the reference, with all of its pieces: see `begin`. That it did not change is your word.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND` if the reference does not have it, or there is none; `ERR_DEEPRING_CHECKSUM` if bytes that
   * are copied are damaged; and as {@link CheckpointWriter.put}.
   */
  async reference(name: string, options?: SignalOptions): Promise<Reused> {
    return this.#takeOver(checkTensorName(name, 'name'), false, options)
  }

  /**
   * Takes over all tensors that the reference has in a group, of all its writers. Where the file system allows it, files get a
   * second name, and nothing is read or written.
   *
   * @throws `ERR_DEEPRING_NOT_FOUND` with the name of the group as `tensor`; and as {@link CheckpointWriter.reference}.
   */
  async referenceGroup(group: string, options?: SignalOptions): Promise<Reused> {
    return this.#takeOver(groupOf(group, 'group'), true, options)
  }

  #takeOver(name: string, isGroup: boolean, options: SignalOptions | undefined): Promise<Reused> {
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check('write')
    return this.#state.run((id, writer) => connect().takeOver(id, writer, name, isGroup), finishReused, signal)
  }

  /**
   * Of the first writer: waits for its calls and for the parts of all writers, and makes the generation visible, as a whole.
   * Then it is durable, and what is not to be kept any more is removed. Of a writer that has joined: makes its part durable.
   *
   * An abort counts until the moment at which the generation becomes visible: nothing is visible then.
   *
   * @throws `ERR_DEEPRING_INCOMPLETE` if writers have ended without their part: `writers`. `ERR_DEEPRING_CONFLICT` if the
   * tensors of the writers do not agree, pieces leave a hole or overlap, or another process has made a generation of this
   * number. `ERR_DEEPRING_FORMAT` if a part is not what it should be. `ENOSPC`, `EIO`, ... After a failure nothing is visible
   * and nothing is left. Only after `ERR_DEEPRING_UNCERTAIN` the generation is there, and a power cut can take it away.
   */
  async commit(options?: SignalOptions): Promise<Generation> {
    const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
    this.#state.check('commit')
    return this.#state.commit(signal)
  }

  /**
   * Waits for the calls, and gives up. Of the first writer, removes all that was written, of all writers. Nothing happens if
   * the writer has ended.
   */
  async abort(): Promise<void> {
    await this.#state.abort()
  }

  /** Aborts, unless it is committed: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.abort()
  }

  static {
    brand('CheckpointWriter', this.prototype, (made) => ({
      generation: made.generation,
      writer: made.writer,
      ended: made.#state.ended,
    }))
  }
}

/** The state of a writer. */
export function writerStateOf(writer: CheckpointWriter): WriterState {
  return stateIn(writer)
}
