/// <reference types="node" preserve="true" />
/**
 * DeepNVMe under its own names: `deepring/aio`.
 *
 * Programs written for DeepSpeed's `aio_handle`, `aio_read` and `aio_write` can be ported line by line;
 * docs/porting-from-deepnvme.md has a row for every function, and one for every defect that is fixed. The rules:
 *
 * - By path and without `fileOffset`, `write`, `pwrite`, `asyncPwrite`, `syncPwrite` and `aioWrite` write a *whole
 *   file*: it is created if it does not exist, and ends where the buffer ends. With a `fileOffset`, even 0, they write
 *   *at a position* and never shorten the file.
 * - By path and without `fileOffset`, `read` and `aioRead` read a whole file, whose size must equal the buffer's.
 *   `pread`, `asyncPread`, `syncPread`, and all reads with a `fileOffset`, fill the buffer.
 * - By `FileHandle`, every transfer happens at `fileOffset` (default 0). No file is created or shortened, and no sizes
 *   are compared.
 * - `asyncPread` and `asyncPwrite` return 0 as soon as the request is queued. `wait()` reports its outcome.
 * - Functions named `sync...` and `...Sync` block the JavaScript thread until the bytes have moved. They are for scripts
 *   and ports. All others return a promise.
 *
 * @packageDocumentation
 */

import { connect } from '../core/completions.ts'
import { Engine, engineStateOf } from '../engine/engine.ts'
import { signalOf } from '../core/abort.ts'
import { booleanOf, optionsOf, type SignalOptions } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import { perform, performBlocking, type Transfer } from './transfer.ts'
import { isTuned, handleLimitsOf, TUNING_KEYS, type AioTuning } from './tuning.ts'
import { viewOf, type Bytes } from '../memory/view.ts'

export { AioHandle, type AioFile } from './handle.ts'
export type { AioHandleOptions, AioQueueOptions, AioTransferOptions } from './handle-options.ts'
export type { AioTuning } from './tuning.ts'

/** Options of {@link aioReadSync} and {@link aioWriteSync}. */
export interface AioSyncOptions extends AioTuning {
  /**
   * True: compares the file with the buffer afterwards, through a separate descriptor that leaves no page in the
   * cache. A difference fails with `ERR_DEEPRING_MISMATCH` and the `position` of the first byte that differs. Default
   * false.
   */
  validate?: boolean | undefined
}

/** Options of {@link aioRead} and {@link aioWrite}. */
export interface AioOptions extends AioSyncOptions, SignalOptions {}

const SYNC_KEYS: ReadonlySet<string> = new Set([...TUNING_KEYS, 'validate'])
const ASYNC_KEYS: ReadonlySet<string> = new Set([...SYNC_KEYS, 'signal'])

/**
 * Reads a whole file into a buffer of the same size.
 *
 * @param buffer - A view or a tensor, as long as the file.
 * @param path - A string, a `file:` URL, or a `Buffer`.
 * @returns 0, as DeepNVMe does.
 * @throws `ERR_DEEPRING_SIZE_MISMATCH` if the sizes differ; `ERR_DEEPRING_MISMATCH` with `validate`; `ENOENT`,
 * `EISDIR`, `EIO`, ...
 *
 * @example
 * ```ts
 * import { aioRead, aioWrite } from 'deepring/aio'
 *
 * await aioWrite(new Float32Array([1, 2, 3]), 'tensor.bin', { validate: true })
 * const tensor = new Float32Array(3)
 * await aioRead(tensor, 'tensor.bin', { blockSize: 1 << 20, queueDepth: 32 })
 * console.log(tensor) // Float32Array(3) [ 1, 2, 3 ]
 * ```
 */
export function aioRead(buffer: Bytes, path: FilePath, options?: AioOptions): Promise<0> {
  return aio(false, buffer, path, options)
}

/**
 * Writes a buffer as a whole file: it is created if it does not exist, and ends where the buffer ends.
 *
 * @param buffer - A view or a tensor, of any size.
 * @param path - A string, a `file:` URL, or a `Buffer`.
 * @returns 0, as DeepNVMe does.
 * @throws `ENOSPC` (nothing was written, and an old file keeps its length and bytes, but for the cases that
 * docs/durability.md names), `EACCES`, `EISDIR`, `EIO`, ...
 *
 * @example
 * ```ts
 * import { aioWrite } from 'deepring/aio'
 *
 * await aioWrite(new Uint8Array(10_000), 'tensor.bin', { blockSize: 1 << 20, queueDepth: 128, validate: true })
 * ```
 */
export function aioWrite(buffer: Bytes, path: FilePath, options?: AioOptions): Promise<0> {
  return aio(true, buffer, path, options)
}

/**
 * As {@link aioRead}, but **blocks the JavaScript thread** until the bytes have arrived.
 *
 * @example
 * ```ts
 * import { aioReadSync, aioWriteSync } from 'deepring/aio'
 *
 * aioWriteSync(new Uint8Array([1, 2, 3]), 'tensor.bin')
 * console.log(aioReadSync(new Uint8Array(3), 'tensor.bin')) // 0
 * ```
 */
export function aioReadSync(buffer: Bytes, path: FilePath, options?: AioSyncOptions): 0 {
  return aioBlocking(false, buffer, path, options)
}

/**
 * As {@link aioWrite}, but **blocks the JavaScript thread** until the bytes have left.
 *
 * @example
 * ```ts
 * import { aioWriteSync } from 'deepring/aio'
 *
 * console.log(aioWriteSync(new Float64Array(1000), 'tensor.bin', { validate: true })) // 0
 * ```
 */
export function aioWriteSync(buffer: Bytes, path: FilePath, options?: AioSyncOptions): 0 {
  return aioBlocking(true, buffer, path, options)
}

async function aio(write: boolean, buffer: Bytes, path: FilePath, options: AioOptions | undefined): Promise<0> {
  const given = optionsOf(options, ASYNC_KEYS)
  const transfer = wholeFile(write, buffer, path, given)
  const engine = engineStateOf(Engine.default)
  const tuning = handleLimitsOf(given)
  const signal = signalOf(given.signal)
  const handle = isTuned(given) ? connect().createHandle(engine.number, tuning) : 0
  try {
    await perform(transfer, handle, signal)
  } finally {
    if (handle !== 0) connect().freeHandle(handle)
  }
  return 0
}

function aioBlocking(write: boolean, buffer: Bytes, path: FilePath, options: AioSyncOptions | undefined): 0 {
  const given = optionsOf(options, SYNC_KEYS)
  const transfer = wholeFile(write, buffer, path, given)
  const engine = engineStateOf(Engine.default)
  const tuning = handleLimitsOf(given)
  const handle = isTuned(given) ? connect().createHandle(engine.number, tuning) : 0
  try {
    performBlocking(transfer, handle)
  } finally {
    if (handle !== 0) connect().freeHandle(handle)
  }
  return 0
}

function wholeFile(write: boolean, buffer: Bytes, path: FilePath, options: Readonly<AioSyncOptions>): Transfer {
  const view = viewOf(buffer, undefined, undefined)
  const target = pathOf(path)
  const validate = booleanOf(options.validate, 'options.validate', false)
  return { engine: Engine.default, write, source: buffer, view, target, position: 0, whole: true, validate }
}
