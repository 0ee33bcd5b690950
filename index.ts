/// <reference types="node" preserve="true" />
/**
 * deepring moves tensors and other large binary data between memory and NVMe at the drive's own speed.
 *
 * This file only wires: its functions are the methods of the default {@link Engine}. Importing it loads no native code
 * and never throws. The first use loads it, and throws `ERR_DEEPRING_LOAD` if that fails. DeepNVMe's names are in
 * `deepring/aio`.
 *
 * @packageDocumentation
 */

import type { EngineBuffer } from './lib/memory/buffer.ts'
import type { DType } from './lib/memory/dtype.ts'
import { Engine, engineStateOf, type OpenOptions } from './lib/engine/engine.ts'
import type { FileHandle } from './lib/file/file.ts'
import type { OpenFlags } from './lib/core/flags.ts'
import type { Info, Stats } from './lib/engine/info.ts'
import type { SignalOptions } from './lib/core/options.ts'
import type { FilePath } from './lib/core/path.ts'
import { sumLater } from './lib/memory/checksum.ts'
import type { Tensor } from './lib/memory/tensor.ts'
import type { Bytes } from './lib/memory/view.ts'

export type { EngineBuffer } from './lib/memory/buffer.ts'
export { DTYPES, type DType, type DTypeInfo, type DTypeViews, type Float16Data } from './lib/memory/dtype.ts'
export { Engine, type OpenOptions } from './lib/engine/engine.ts'
export { inFlight, type InFlight } from './lib/engine/in-flight.ts'
export type { EngineOptions } from './lib/engine/limits.ts'
export type { Backend } from './lib/core/record.ts'
export { DeepringError, type DeepringErrorFields } from './lib/core/errors.ts'
export type { AppendOptions, AppendResult } from './lib/file/append.ts'
export type { AsyncBuffer } from './lib/file/async-buffer.ts'
export { readMany, readManyBatches, type ManyRequest } from './lib/file/batches.ts'
export type { Chunk } from './lib/file/chunk.ts'
export { FileHandle } from './lib/file/file.ts'
export type {
  ManyReceipt,
  ReadManyOptions,
  ReadManyResult,
  WriteManyOptions,
  WriteManyResult,
} from './lib/file/many.ts'
export type { Place, WithBuffer } from './lib/file/calls.ts'
export type { ReadOptions, WriteOptions } from './lib/file/options.ts'
export type { PipeOptions, PipeResult } from './lib/file/pipe.ts'
export type { Numbers, Ranges } from './lib/file/ranges.ts'
export type { Alignment, ReadResult, WriteResult } from './lib/file/file-state.ts'
export type { OpenFlags } from './lib/core/flags.ts'
export type {
  ClassLatency,
  DeviceWindow,
  Info,
  LatencySummary,
  PathInfo,
  ProfileInfo,
  Stats,
  WindowSize,
} from './lib/engine/info.ts'
export type { Priority, SignalOptions } from './lib/core/options.ts'
export type { FilePath } from './lib/core/path.ts'
export type { ChecksumOptions } from './lib/file/checksum.ts'
export type { ReadStreamOptions, WebStreamOptions } from './lib/file/read-stream.ts'
export type { Receipt } from './lib/file/receipt.ts'
export type { ChunkOptions, SpanOptions } from './lib/file/span.ts'
export type { SharedFile } from './lib/file/share.ts'
export { BigIntFileStat, FileStat, type StatOptions } from './lib/file/stat.ts'
export { crc32c, crc32cCombine } from './lib/memory/checksum.ts'
export { allocateShared } from './lib/memory/shared.ts'
export type { Tensor } from './lib/memory/tensor.ts'
export type { Bytes, TensorLike } from './lib/memory/view.ts'
export type { IoTrace } from './lib/core/tracing.ts'
export type { OnProgress, Progress, ProgressOptions } from './lib/core/progress.ts'
export type { ReadvResult, WritevResult } from './lib/file/vectored.ts'
export type { WriteStreamOptions } from './lib/file/write-stream.ts'
export { copyFile, type CopyFileOptions, type CopyFileResult } from './lib/whole/copy-file.ts'
export { hashFile, type HashFileOptions } from './lib/whole/hash-file.ts'
export type { OutputOptions, WholeFileOptions } from './lib/whole/options.ts'
export { readFile, type ReadFileOptions } from './lib/whole/read-file.ts'
export {
  appendFile,
  writeFile,
  type AppendFileOptions,
  type FileData,
  type WriteFileOptions,
} from './lib/whole/write-file.ts'

/**
 * Opens a file with the default engine: {@link Engine.open}.
 *
 * @param path - A string, a `file:` URL, or a `Buffer`; relative to the working directory at the time of the call.
 * @param flags - `'r'` (default), `'r+'`, `'w'`, `'w+'`, `'wx'`, `'wx+'`, `'a'`, `'a+'`, `'ax'`, `'ax+'`, as in node:fs; or
 * its constants, such as `O_RDWR | O_CREAT`.
 * @param options - `direct` (`'prefer'`, `'require'` or `'never'`; default `'prefer'`), `mode` (default `0o666`),
 * `syncDirectory` (default false), `signal`.
 * @throws `ENOENT`, `EACCES`, `EISDIR`, `EEXIST` and similar errors; `ERR_DEEPRING_DIRECT` if direct I/O is required and
 * refused; `ERR_DEEPRING_UNSUPPORTED` for pipes, sockets and character devices; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { allocate, open } from 'deepring'
 *
 * const weights = allocate(1 << 20)
 * const file = await open('weights.bin', 'w+')
 * try {
 *   await file.write(weights, { position: 0 })
 *   const { bytesRead, receipt } = await file.read(weights, { position: 0 })
 *   console.log(bytesRead, receipt.backend, receipt.direct)
 * } finally {
 *   await file.close()
 * }
 * ```
 */
export async function open(path: FilePath, flags?: OpenFlags | number, options?: OpenOptions): Promise<FileHandle> {
  return Engine.default.open(path, flags, options)
}

/**
 * Allocates zeroed memory that starts on a page, for transfers without a copy: {@link Engine.allocate}.
 *
 * @param bytes - The size, 0 or more.
 * @returns A `Uint8Array` with `[Symbol.dispose]`, which detaches all views and returns the memory.
 * @throws `ENOMEM`; `ERR_DEEPRING_OUT_OF_RANGE`; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { allocate } from 'deepring'
 *
 * const memory = allocate(1 << 20)
 * console.log(memory.byteLength, memory[0]) // 1048576 0
 * memory[Symbol.dispose]()
 * console.log(memory.byteLength) // 0
 * ```
 */
export function allocate(bytes: number | bigint): EngineBuffer {
  return Engine.default.allocate(bytes)
}

/**
 * As {@link allocate}, but the memory can hold old bytes of this process: {@link Engine.allocateUnsafe}. Cheaper, for
 * memory that will be read into.
 *
 * @param bytes - The size, 0 or more.
 * @throws `ENOMEM`; `ERR_DEEPRING_OUT_OF_RANGE`; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { allocateUnsafe } from 'deepring'
 *
 * const memory = allocateUnsafe(1 << 20).fill(7)
 * console.log(memory[0]) // 7
 * ```
 */
export function allocateUnsafe(bytes: number | bigint): EngineBuffer {
  return Engine.default.allocateUnsafe(bytes)
}

/**
 * Allocates a zeroed tensor: {@link Engine.allocateTensor}.
 *
 * @param dtype - The element type, by its name in safetensors: `'F32'`, `'BF16'`, `'I64'`, ... ({@link DTYPES} has
 * all).
 * @param shape - The extents, outermost first; `[]` for a scalar.
 * @throws `ENOMEM`; `ERR_DEEPRING_INVALID_ARG_VALUE`; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { allocateTensor } from 'deepring'
 *
 * const tensor = allocateTensor('F32', [2, 3])
 * console.log(tensor.data.length, tensor.byteLength) // 6 24
 * ```
 */
export function allocateTensor<D extends DType>(dtype: D, shape: readonly number[]): Tensor<D> {
  return Engine.default.allocateTensor(dtype, shape)
}

/**
 * Describes the default engine's configuration and why it was chosen; with a path, also direct I/O there: {@link
 * Engine.info}.
 *
 * @param path - A file or directory to look at.
 * @param options - `signal`.
 * @throws `ENOENT`, `EACCES` and similar errors of the path; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { info } from 'deepring'
 *
 * const { backend, reason, path } = await info('.')
 * console.log(backend, reason, path?.fileSystem, path?.direct)
 * ```
 */
export async function info(path?: FilePath, options?: SignalOptions): Promise<Info> {
  return Engine.default.info(path, options)
}

/**
 * Advice in words, from what the default engine found out: {@link Engine.doctor}. If the native binding cannot be loaded, that is
 * the advice.
 *
 * @param path - A file or directory to look at, too.
 * @param options - `signal`.
 * @throws `ENOENT`, `EACCES` and similar errors of the path.
 *
 * @example
 * ```ts
 * import { doctor } from 'deepring'
 *
 * for (const advice of await doctor('.')) console.log(advice)
 * ```
 */
export async function doctor(path?: FilePath, options?: SignalOptions): Promise<string[]> {
  try {
    return await Engine.default.doctor(path, options)
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_DEEPRING_LOAD') throw error
    return [(error as Error).message]
  }
}

/**
 * The counters of the default engine since its start: {@link Engine.stats}.
 *
 * @throws `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { stats } from 'deepring'
 *
 * const { submitted, completed, latency } = stats()
 * console.log(submitted, completed, latency.p99Us)
 * ```
 */
export function stats(): Stats {
  return Engine.default.stats()
}

/**
 * Gives memory that the default engine keeps for reuse back to the system: {@link Engine.trim}. `stats().pooledBytes`
 * says how much that is.
 *
 * @throws `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { stats, trim } from 'deepring'
 *
 * trim()
 * console.log(stats().pooledBytes) // 0
 * ```
 */
export function trim(): void {
  Engine.default.trim()
}

/**
 * As {@link crc32c}, by a thread of the default engine. The memory must not change before the promise settles.
 *
 * @param buffer - A typed array, a `DataView` or a tensor; not on resizable memory.
 * @param seed - The checksum of what is before it. Default 0, that of nothing.
 * @throws `ERR_DEEPRING_INVALID_ARG_TYPE`, `ERR_DEEPRING_OUT_OF_RANGE`, `ERR_DEEPRING_DETACHED`; `ERR_DEEPRING_LOAD`.
 *
 * @example
 * ```ts
 * import { allocate, crc32c, crc32cAsync } from 'deepring'
 *
 * const memory = allocate(1 << 20)
 * console.log((await crc32cAsync(memory)) === crc32c(memory)) // true
 * ```
 */
export async function crc32cAsync(buffer: Bytes, seed: number = 0): Promise<number> {
  return sumLater(engineStateOf(Engine.default), buffer, seed)
}
