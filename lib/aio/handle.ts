/**
 * DeepNVMe's `aio_handle`: a queue of transfers with its own limits, and one `wait` for all of them.
 *
 * A handle needs no close. Its queued transfers are in its {@link Ledger}, which lives until the last of them has
 * settled, even if the handle was dropped.
 */

import { signalOf } from '../core/abort.ts'
import { brand, otherCopy, Uncloneable } from '../core/brand.ts'
import { connect, flushOncePerTick } from '../core/completions.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { booleanOf, integerOf, optionsOf, positionOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { pathOf, type CheckedPath, type FilePath } from '../core/path.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { checkOpen, type EngineState } from '../core/engine-state.ts'
import { Engine, engineStateOf, isEngine } from '../engine/engine.ts'
import { blockSizeOf } from '../engine/limits.ts'
import { isFileHandle, stateOf, type FileHandle } from '../file/file.ts'
import type { DType } from '../memory/dtype.ts'
import type { Tensor } from '../memory/tensor.ts'
import {
  fromOffset,
  HANDLE_KEYS,
  PARALLELISM_MAX,
  QUEUE_KEYS,
  TRANSFER_KEYS,
  type AioHandleOptions,
  type AioQueueOptions,
  type AioTransferOptions,
} from './handle-options.ts'
import { Ledger } from './ledger.ts'
import { allocateLike, isPinned, release } from './pinned.ts'
import { perform, performBlocking, stage, type Transfer } from './transfer.ts'
import { handleLimitsOf } from './tuning.ts'

/** The alignment where no file is named: the strictest in common use. */
const ALIGNMENT_BYTES = 4096

/** A file, by name or already open. */
export type AioFile = FilePath | FileHandle

const dropped = new FinalizationRegistry<Ledger>((ledger) => void ledger.drop())

/**
 * DeepNVMe's `aio_handle`: transfers by path or by file, several at a time, under the handle's own limits.
 *
 * @example
 * ```ts
 * import { allocate } from 'deepring'
 * import { AioHandle } from 'deepring/aio'
 *
 * const handle = new AioHandle({ blockSize: 1 << 20, queueDepth: 32, intraOpParallelism: 2 })
 * const tensors = [allocate(10_000), allocate(70_000)]
 * for (const [i, tensor] of tensors.entries()) handle.asyncPwrite(tensor, `tensor-${i}.bin`)
 * console.log(await handle.wait()) // 2
 * for (const [i, tensor] of tensors.entries()) handle.asyncPread(tensor, `tensor-${i}.bin`)
 * console.log(await handle.wait()) // 2
 * ```
 */
export class AioHandle extends Uncloneable {
  readonly #engine: EngineState
  /** Held, so that the engine is not collected while a handle uses it. */
  readonly #owner: Engine
  readonly #options: Readonly<AioHandleOptions>
  readonly #ledger: Ledger

  /**
   * @param options - The limits. Absent ones take deepring's defaults, not one of DeepNVMe's five sets.
   * @throws `ERR_DEEPRING_OUT_OF_RANGE`, `ERR_DEEPRING_INVALID_ARG_TYPE`, `ERR_DEEPRING_INVALID_ARG_VALUE`;
   * `ERR_DEEPRING_LOAD`.
   */
  constructor(options?: AioHandleOptions) {
    super()
    const given = optionsOf(options, HANDLE_KEYS)
    const limits = handleLimitsOf(given)
    const parallelism =
      given.intraOpParallelism === undefined
        ? 1
        : integerOf(given.intraOpParallelism, 'options.intraOpParallelism', 1, PARALLELISM_MAX)
    if (given.engine !== undefined && !isEngine(given.engine))
      throw (
        otherCopy('options.engine', 'Engine', given.engine) ??
        invalidType('options.engine', 'an instance of Engine', given.engine)
      )
    this.#owner = given.engine ?? Engine.default
    this.#engine = engineStateOf(this.#owner)
    checkOpen(this.#engine, 'aio_handle')
    this.#options = { ...given, intraOpParallelism: parallelism }
    const limit = { ...limits, queueDepth: limits.queueDepth * parallelism }
    this.#ledger = new Ledger(connect().createHandle(this.#engine.number, limit))
    dropped.register(this, this.#ledger)
  }

  /**
   * Reads a whole file; with a `fileOffset`, fills the buffer from there.
   *
   * @returns 0.
   * @throws `ERR_DEEPRING_SIZE_MISMATCH` if the sizes differ, by path and without `fileOffset`; `ERR_DEEPRING_EOF`; and
   * as `aioRead`.
   */
  async read(buffer: Bytes, file: AioFile, options?: AioTransferOptions): Promise<0> {
    await this.#perform(false, true, buffer, file, options)
    return 0
  }

  /**
   * Writes a whole file, or at `fileOffset`.
   *
   * @returns 0.
   * @throws As `aioWrite`.
   */
  async write(buffer: Bytes, file: AioFile, options?: AioTransferOptions): Promise<0> {
    await this.#perform(true, true, buffer, file, options)
    return 0
  }

  /**
   * Fills the buffer from `fileOffset`, or from the beginning of the file.
   *
   * @returns 1, the count of operations done. Operations queued by `asyncPread` and `asyncPwrite` are not counted and
   * stay queued.
   * @throws `ERR_DEEPRING_EOF` if the file ends early; and as `aioRead`.
   *
   * @example
   * ```ts
   * import { AioHandle } from 'deepring/aio'
   *
   * const handle = new AioHandle({ blockSize: 1 << 20, queueDepth: 16 })
   * console.log(await handle.pwrite(new Uint8Array([1, 2, 3, 4]), 'tensor.bin', { validate: true })) // 1
   * const middle = new Uint8Array(2)
   * console.log(await handle.pread(middle, 'tensor.bin', { fileOffset: 1 })) // 1
   * console.log(middle) // Uint8Array(2) [ 2, 3 ]
   * ```
   */
  async pread(buffer: Bytes, file: AioFile, options?: AioTransferOptions): Promise<1> {
    await this.#perform(false, false, buffer, file, options)
    return 1
  }

  /**
   * Writes a whole file, or at `fileOffset`.
   *
   * @returns 1, the count of operations done, as for {@link AioHandle.pread}.
   * @throws As `aioWrite`.
   */
  async pwrite(buffer: Bytes, file: AioFile, options?: AioTransferOptions): Promise<1> {
    await this.#perform(true, true, buffer, file, options)
    return 1
  }

  /**
   * As {@link AioHandle.pread}, but **blocks the JavaScript thread**.
   *
   * @param options - Options, or only the file offset, in bytes.
   *
   * @example
   * ```ts
   * import { AioHandle } from 'deepring/aio'
   *
   * const handle = new AioHandle()
   * console.log(handle.syncPwrite(new Uint8Array([1, 2, 3, 4]), 'tensor.bin')) // 1
   * console.log(handle.syncPread(new Uint8Array(2), 'tensor.bin', 1)) // 1
   * ```
   */
  syncPread(buffer: Bytes, file: AioFile, options?: number | bigint | AioQueueOptions): 1 {
    performBlocking(this.#transfer(false, false, buffer, file, fromOffset(options)), this.#ledger.handle)
    return 1
  }

  /**
   * As {@link AioHandle.pwrite}, but **blocks the JavaScript thread**.
   *
   * @param options - Options, or only the file offset, in bytes.
   */
  syncPwrite(buffer: Bytes, file: AioFile, options?: number | bigint | AioQueueOptions): 1 {
    performBlocking(this.#transfer(true, true, buffer, file, fromOffset(options)), this.#ledger.handle)
    return 1
  }

  /**
   * Queues a read like that of {@link AioHandle.pread}. The buffer belongs to the engine until {@link AioHandle.wait}
   * has reported the outcome.
   *
   * The first transfer of a turn of the event loop starts at once, the others when the turn ends. Before a long
   * computation, await something.
   *
   * @param options - Options, or only the file offset, in bytes.
   * @returns 0, at once. Never a promise: a rejected promise without a handler would end the process.
   * @throws Only for bad arguments. `wait()` reports a file that cannot be opened.
   */
  asyncPread(buffer: Bytes, file: AioFile, options?: number | bigint | AioQueueOptions): 0 {
    return this.#queue(this.#transfer(false, false, buffer, file, fromOffset(options)))
  }

  /**
   * Queues a write like that of {@link AioHandle.pwrite}. The buffer belongs to the engine until {@link AioHandle.wait}
   * has reported the outcome.
   *
   * @param options - Options, or only the file offset, in bytes.
   * @returns 0, at once.
   * @throws Only for bad arguments. `wait()` reports a file that cannot be opened.
   */
  asyncPwrite(buffer: Bytes, file: AioFile, options?: number | bigint | AioQueueOptions): 0 {
    return this.#queue(this.#transfer(true, true, buffer, file, fromOffset(options)))
  }

  /**
   * Waits until everything queued by `asyncPread` and `asyncPwrite` before this call has settled.
   *
   * Exactly one `wait()` counts an operation and reports its failure: the first one after it. Operations queued while a
   * `wait()` runs belong to the next.
   *
   * @param options - `signal`: aborting it cancels these operations.
   * @returns The number of operations.
   * @throws The first failure in the order of queueing, with all of them in `errors`; or an `AbortError`, once all
   * have settled.
   *
   * @example
   * ```ts
   * import { DeepringError } from 'deepring'
   * import { AioHandle } from 'deepring/aio'
   *
   * const handle = new AioHandle()
   * handle.asyncPread(new Uint8Array(10), 'no-such-file.bin')
   * try {
   *   await handle.wait()
   * } catch (error) {
   *   if (error instanceof DeepringError) console.log(error.code, error.errors?.length) // ENOENT 1
   * }
   * console.log(await handle.wait()) // 0
   * ```
   */
  async wait(options?: SignalOptions): Promise<number> {
    return this.#ledger.wait(signalOf(optionsOf(options, SIGNAL_KEYS).signal))
  }

  /** The effective bytes per block: rounded up to a multiple of 4096. */
  getBlockSize(): number {
    const { blockSize } = this.#options
    return blockSize === undefined ? this.#engineLimits().blockSize : blockSizeOf(blockSize, 'blockSize')
  }

  /** Blocks in flight at most, before it is multiplied by the parallelism. Never more than the engine's limit. */
  getQueueDepth(): number {
    return Math.min(this.#options.queueDepth ?? Infinity, this.#engineLimits().queueDepth)
  }

  /** Whether each block is submitted by its own system call. */
  getSingleSubmit(): boolean {
    return this.#options.singleSubmit ?? false
  }

  /** Whether new blocks are submitted as others complete, rather than when all have completed. */
  getOverlapEvents(): boolean {
    return this.#options.overlapEvents ?? true
  }

  /** The factor of the limit on blocks in flight. */
  getIntraOpParallelism(): number {
    return this.#options.intraOpParallelism ?? 1
  }

  /**
   * The alignment of positions and lengths, in bytes, for transfers without bounce blocks: that of the file, or 4096.
   * Unaligned transfers work too. It does not grow with the parallelism.
   */
  getAlignment(file?: FileHandle): number {
    if (file === undefined) return ALIGNMENT_BYTES
    if (!isFileHandle(file))
      throw otherCopy('file', 'FileHandle', file) ?? invalidType('file', 'an instance of FileHandle', file)
    return file.alignment.offset
  }

  /**
   * Allocates a zeroed, one-dimensional tensor in engine memory, with the element type of `example`.
   *
   * Engine memory is not locked as DeepNVMe's is: the kernel pins its pages while a transfer runs, so no limit on locked
   * memory applies.
   *
   * @param numElem - The number of elements.
   * @param example - A typed array or tensor.
   * @throws `ENOMEM`; `ERR_DEEPRING_INVALID_ARG_VALUE` if the example's element type has no name in safetensors.
   *
   * @example
   * ```ts
   * import { AioHandle } from 'deepring/aio'
   *
   * const handle = new AioHandle()
   * const tensor = handle.newCpuLockedTensor(1024, new Float32Array())
   * console.log(tensor.dtype, tensor.data.length, handle.isPinned(tensor)) // F32 1024 true
   * console.log(handle.freeCpuLockedTensor(tensor), handle.isPinned(tensor)) // true false
   * ```
   */
  newCpuLockedTensor<D extends DType>(numElem: number | bigint, example: Tensor<D>): Tensor<D>
  newCpuLockedTensor(numElem: number | bigint, example: Bytes): Tensor
  newCpuLockedTensor(numElem: number | bigint, example: Bytes): Tensor {
    return allocateLike(this.#owner, numElem, example)
  }

  /**
   * Frees a tensor of `newCpuLockedTensor`, or other memory of the engine. All views of it are detached. The memory
   * returns to the pool when transfers in flight on it have settled.
   *
   * @returns False, and does nothing, if it is not a whole piece of engine memory, or was freed before.
   */
  freeCpuLockedTensor(tensor: Bytes): boolean {
    return release(tensor)
  }

  /**
   * True if all bytes of a tensor lie in engine memory, and so move without a copy. False after the tensor was freed.
   */
  isPinned(tensor: Bytes): boolean {
    return isPinned(tensor)
  }

  async #perform(
    write: boolean,
    whole: boolean,
    buffer: Bytes,
    file: AioFile,
    options: AioTransferOptions | undefined,
  ): Promise<void> {
    const transfer = this.#transfer(write, whole, buffer, file, options, TRANSFER_KEYS)
    const signal = signalOf(options?.signal)
    await perform(transfer, this.#ledger.handle, signal)
  }

  #transfer(
    write: boolean,
    whole: boolean,
    buffer: Bytes,
    file: AioFile,
    options: AioTransferOptions | undefined,
    keys: ReadonlySet<string> = QUEUE_KEYS,
  ): Transfer {
    const given = optionsOf(options, keys)
    const view = viewOf(buffer, undefined, undefined)
    const position =
      given.fileOffset === undefined ? 0 : positionOf(given.fileOffset, 'options.fileOffset', view.byteLength)
    const validate = booleanOf(given.validate, 'options.validate', false)
    const target = isFileHandle(file) ? stateOf(file) : pathOfOwn(file)
    if ('engine' in target && target.engine !== this.#engine) {
      throw invalidValue(
        'file',
        'It was opened by another engine than the one of this handle; pass that engine as options.engine.',
        file,
      )
    }
    return {
      engine: this.#owner,
      write,
      source: buffer,
      view,
      target,
      position,
      whole: whole && given.fileOffset === undefined,
      validate,
    }
  }

  #queue(transfer: Transfer): 0 {
    const { handle } = this.#ledger
    if (transfer.validate) this.#ledger.queueChain((signal) => perform(transfer, handle, signal))
    else this.#ledger.queue(({ id }, index) => stage(transfer, { handle, group: { id, index } }))
    // Not at the end of the tick: the transfer is meant to overlap with what the caller computes next.
    flushOncePerTick()
    return 0
  }

  #engineLimits(): { queueDepth: number; blockSize: number } {
    checkOpen(this.#engine, 'info')
    return connect().engineLimits(this.#engine.number)
  }
}

/** A path; a file of another copy of the package is not taken for one. */
function pathOfOwn(file: unknown): CheckedPath {
  const foreign = otherCopy('file', 'FileHandle', file)
  if (foreign !== undefined) throw foreign
  return pathOf(file, 'file')
}

brand('AioHandle', AioHandle.prototype, (handle) => ({
  singleSubmit: handle.getSingleSubmit(),
  overlapEvents: handle.getOverlapEvents(),
  intraOpParallelism: handle.getIntraOpParallelism(),
}))
