/**
 * Open files, as the caller uses them. The requests on a file use its `FileState`: see file-state.ts.
 *
 * `read` and `write` are the hot path: a program makes hundreds of thousands of 4 KiB reads. A call makes at most one
 * view, one `Operation` and two promises, and no closure. Options are read field by field and never copied.
 */

import type { Readable, Writable } from 'node:stream'
import type { ReadableStream, WritableStream } from 'node:stream/web'
import { signalOf } from '../core/abort.ts'
import { brand, Uncloneable } from '../core/brand.ts'
import { track } from '../core/completions.ts'
// oxlint-disable-next-line import/no-cycle -- a file names its engine, and an engine opens files; see engine.ts
import type { Engine } from '../engine/engine.ts'
import type { EngineState } from '../core/engine-state.ts'
import { invalidType } from '../core/errors.ts'
import { flagsOf } from '../core/flags.ts'
import {
  checkFileOpen,
  FileState,
  finishNothing,
  stageRead,
  stageWrite,
  type Alignment,
  type ReadResult,
  type WriteResult,
} from './file-state.ts'
import {
  readMany,
  writeMany,
  type ReadManyOptions,
  type ReadManyResult,
  type WriteManyOptions,
  type WriteManyResult,
} from './many.ts'
import { READ_KEYS, WRITE_KEYS, type ReadOptions, type WriteOptions } from './options.ts'
import type { Ranges } from './ranges.ts'
import { checksum, type ChecksumOptions } from './checksum.ts'
import { stat, sync, truncate } from './control.ts'
import {
  booleanOf,
  checkKeys,
  checksumOf,
  optionsOf,
  positionOf,
  priorityOf,
  type SignalOptions,
} from '../core/options.ts'
import type { Backend } from '../core/record.ts'
import type { BigIntFileStat, FileStat, StatOptions } from './stat.ts'
import { viewOf, type Bytes } from '../memory/view.ts'
import { append, type AppendOptions, type AppendResult } from './append.ts'
import { asyncBuffer, type AsyncBuffer } from './async-buffer.ts'
import { callOf, type Place, type WithBuffer } from './calls.ts'
import { chunks, type Chunk } from './chunk.ts'
import { pipe, type PipeOptions, type PipeResult } from './pipe.ts'
import { createReadStream, readableWebStream, type ReadStreamOptions, type WebStreamOptions } from './read-stream.ts'
import { CHUNK_KEYS, spanOf, type ChunkOptions } from './span.ts'
import { openShared, shareOf, type SharedFile } from './share.ts'
import { readv, writev, type ReadvResult, type WritevResult } from './vectored.ts'
import { createWriteStream, type WriteStreamOptions } from './write-stream.ts'

/** The reason that the engine gives while locks work. */
const LOCKS_IN_USE = 'open-file-description locks'

const leaked = new FinalizationRegistry<FileState>((state) => {
  if (state.closing !== undefined) return
  process.emitWarning(
    `Closing the file '${state.path}' on garbage collection. Close it with close() or \`await using\`.`,
    {
      type: 'DeepringWarning',
      code: 'DEEPRING_FILE_LEAKED',
    },
  )
  state.close().catch(finishNothing)
})

let engineNumbered: (number: number) => { readonly owner: Engine; readonly state: EngineState }
let make: (state: FileState, owner: Engine) => FileHandle
let stateIn: (file: FileHandle) => FileState
let isMade: (value: object) => value is FileHandle

/**
 * An open file. Made by `open`. Close it after use.
 *
 * Requests on one file run in parallel and in any order. If two of them overlap, await one before the other.
 *
 * @example
 * ```ts
 * import { allocate, open } from 'deepring'
 *
 * const weights = allocate(1 << 20)
 * const file = await open('weights.bin', 'w+')
 * try {
 *   await file.write(weights, { position: 0 })
 *   await file.sync()
 *   const { bytesRead, receipt } = await file.read(weights, { position: 0 })
 *   console.log(bytesRead, receipt.direct) // 1048576 true
 * } finally {
 *   await file.close()
 * }
 * ```
 */
export class FileHandle extends Uncloneable {
  readonly #state: FileState
  /** Held, so that an engine that is used only through its files is not collected. */
  readonly #owner: Engine

  static {
    make = (state, owner) => new FileHandle(state, owner)
    stateIn = (file) => file.#state
    isMade = (value): value is FileHandle => #state in value
  }

  private constructor(state: FileState, owner: Engine) {
    super()
    if (!(state instanceof FileState))
      throw invalidType('state', 'made by open(); FileHandle has no public constructor', state)
    this.#state = state
    this.#owner = owner
    leaked.register(this, state, state)
  }

  /** The file as it was named in `open`. */
  get path(): string {
    return this.#state.path
  }

  /** True once closing has begun. */
  get closed(): boolean {
    return this.#state.number === 0
  }

  /**
   * Its descriptor, for calls that deepring does not make; -1 once closing has begun. It can have `O_DIRECT` set. Do not close
   * it, nor change its flags.
   */
  get fd(): number {
    return this.#state.fd
  }

  /** The engine that opened it. */
  get engine(): Engine {
    return this.#owner
  }

  /**
   * True if transfers bypass the page cache now. It becomes false if a direct transfer is refused later on, or if the
   * first write turns out to be in the page cache. After the close, it stays as it was last.
   */
  get direct(): boolean {
    return this.#state.direct
  }

  /** Why transfers go through the page cache; or, where they bypass it, what says that they can (`'statx'`). */
  get directReason(): string {
    const { direct, opened } = this.#state
    return opened.direct && !direct
      ? 'a direct transfer was refused, or went through the page cache'
      : opened.directReason
  }

  /**
   * True if unaligned and extending writes keep out those of other processes, and of other copies of deepring in this
   * one, so that none loses bytes. Becomes false if the file system refuses locks. See docs/durability.md.
   */
  get locks(): boolean {
    return this.#state.locks
  }

  /** What keeps other processes out; or why nothing does: the file is read only, or the file system has no locks. */
  get locksReason(): string {
    const { locks, opened } = this.#state
    return !locks && opened.locksReason === LOCKS_IN_USE ? 'the file system refuses locks' : opened.locksReason
  }

  /**
   * What moves this file's bytes now. Files of FUSE are always served by `'threads'`, and so are all files once an
   * engine has lost its ring. `'node'` where the native binding cannot run. After the close, it stays as it was last.
   */
  get backend(): Backend {
    return this.#state.backend
  }

  /**
   * The alignment of direct transfers. Unaligned transfers work too: their edges go through a bounce block, and so do
   * all bytes of a write from memory that is not on a page. Aligned transfers in memory of `allocate` are the fastest.
   */
  get alignment(): Alignment {
    const { offsetAlignment, memoryAlignment } = this.#state.opened
    return { offset: offsetAlignment, memory: memoryAlignment }
  }

  /**
   * Reads from the file into memory: all bytes that are requested, or those up to the end of the file. `exact: true`
   * makes it an error if the file ends early.
   *
   * Until the promise settles, the memory belongs to the engine: do not read, write, transfer or resize it.
   *
   * @param buffer - A typed array, a `DataView` or a tensor, of any size and alignment; not on resizable memory. An
   * empty one reads 0 bytes.
   * @param options - `position` (required), `offset` and `length` in bytes, `exact`, `checksum`, `expect`, `priority`,
   * `signal`. The calls of node:fs/promises are understood, too: `read(buffer, offset, length, position)` and
   * `read({ buffer, ... })`.
   * @returns The number of bytes read (0 behind the end of the file), the buffer, and a receipt.
   * @throws `ERR_DEEPRING_EOF` with `transferred` if the file ends early and `exact` is true;
   * `ERR_DEEPRING_CHECKSUM` with `expected` and `actual`, the buffer filled;
   * `ERR_DEEPRING_CLOSED`; `EBADF` if the file was opened for writing only; `ERR_DEEPRING_DETACHED` if the memory was
   * detached during the read; the system's errors (`EIO`).
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin', 'w+')
   * try {
   *   await file.write(new Uint8Array([1, 2, 3]), { position: 0 })
   *   const { bytesRead, buffer } = await file.read(new Uint8Array(8), { position: 1 })
   *   console.log(bytesRead, buffer) // 2 Uint8Array(8) [ 2, 3, 0, 0, 0, 0, 0, 0 ]
   * } finally {
   *   await file.close()
   * }
   * ```
   */
  read<B extends Bytes>(buffer: B, options: ReadOptions): Promise<ReadResult<B>>
  /** As in node:fs/promises. The position is required. */
  read<B extends Bytes>(buffer: B, offset: Place, length: Place, position: number | bigint): Promise<ReadResult<B>>
  /** As in node:fs/promises: all in one object. */
  read<B extends Bytes>(options: WithBuffer<B, ReadOptions>): Promise<ReadResult<B>>
  read(
    buffer: Bytes | WithBuffer<Bytes, ReadOptions>,
    options?: ReadOptions | Place,
    length?: Place,
    at?: number | bigint,
  ): Promise<ReadResult> {
    try {
      if (typeof options !== 'object' || options === null) return this.read(...callOf(buffer, options, length, at))
      checkKeys(options, READ_KEYS)
      const view = viewOf(buffer, options.offset, options.length)
      const position = positionOf(options.position, 'options.position', view.byteLength)
      const exact = booleanOf(options.exact, 'options.exact', false)
      const priority = priorityOf(options.priority)
      const signal = signalOf(options.signal)
      const sum = checksumOf(options.checksum, options.expect)
      const operation = stageRead(this.#state, buffer, view, position, exact, priority, undefined, sum)
      operation.owner = this
      return track(operation, signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Writes from memory into the file. Bytes beyond the end extend the file; a write never shortens it.
   *
   * Until the promise settles, the memory belongs to the engine: do not change, transfer or resize it. The device
   * then has the bytes, but they survive a power cut only after {@link FileHandle.sync} or {@link
   * FileHandle.datasync}.
   *
   * @param buffer - A typed array, a `DataView` or a tensor, of any size and alignment; not on resizable memory. An
   * empty one writes nothing.
   * @param options - `position` (required), `offset` and `length` in bytes, `checksum`, `priority`, `signal`. The calls of
   * node:fs/promises are understood, too: `write(buffer, offset, length, position)` and `write(text, position, encoding)`.
   * @returns The number of bytes written (all of them), the buffer, and a receipt.
   * @throws `ENOSPC`, `EDQUOT`, `EFBIG`, `EIO` with `transferred`; `ERR_DEEPRING_CLOSED`; `EBADF` if the file was
   * opened read-only; `ERR_DEEPRING_DETACHED` if memory that is not the engine's was detached during the write.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin', 'w')
   * try {
   *   const { bytesWritten } = await file.write(new Float32Array([1, 2, 3]), { position: 10 })
   *   console.log(bytesWritten, (await file.stat()).size) // 12 22
   * } finally {
   *   await file.close()
   * }
   * ```
   */
  write<B extends Bytes>(buffer: B, options: WriteOptions): Promise<WriteResult<B>>
  /** As in node:fs/promises. The position is required. */
  write<B extends Bytes>(buffer: B, offset: Place, length: Place, position: number | bigint): Promise<WriteResult<B>>
  /** As {@link FileHandle.read} takes it: all in one object. */
  write<B extends Bytes>(options: WithBuffer<B, WriteOptions>): Promise<WriteResult<B>>
  /** As in node:fs/promises: text. The result has the bytes that were written as its buffer. */
  write(text: string, position: number | bigint, encoding?: BufferEncoding): Promise<WriteResult<Buffer>>
  write(
    buffer: Bytes | WithBuffer<Bytes, WriteOptions> | string,
    options?: WriteOptions | Place,
    length?: Place | BufferEncoding,
    at?: number | bigint,
  ): Promise<WriteResult> {
    try {
      if (typeof options !== 'object' || options === null) return this.write(...callOf(buffer, options, length, at))
      checkKeys(options, WRITE_KEYS)
      const view = viewOf(buffer, options.offset, options.length)
      const position = positionOf(options.position, 'options.position', view.byteLength)
      const priority = priorityOf(options.priority)
      const signal = signalOf(options.signal)
      const sum = checksumOf(options.checksum, undefined)
      const operation = stageWrite(this.#state, buffer, view, position, priority, undefined, sum)
      operation.owner = this
      return track(operation, signal)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Reads into several buffers what is one behind the other in the file, as in node:fs/promises: fewer bytes only at the end of
   * the file. For parts that are not neighbors, use {@link FileHandle.readMany}.
   *
   * @param buffers - Each as of {@link FileHandle.read}.
   * @param position - Where in the file the first begins, in bytes. Required.
   * @param options - `signal`.
   * @throws As {@link FileHandle.read}, for the first buffer that failed.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin')
   * const { bytesRead, buffers } = await file.readv([new Uint8Array(8), new Float32Array(100)], 0)
   * console.log(bytesRead, buffers.length) // 408 2
   * await file.close()
   * ```
   */
  readv<B extends readonly Bytes[]>(
    buffers: B,
    position: number | bigint,
    options?: SignalOptions,
  ): Promise<ReadvResult<B>> {
    return readv(this.#state, this, buffers, position, options)
  }

  /**
   * Writes several buffers, one behind the other in the file, as in node:fs/promises. They are requests of their own: after a
   * failure, any of them can have been written. Neighbors that are not whole blocks cost less in one buffer.
   *
   * @param buffers - Each as of {@link FileHandle.write}.
   * @param position - Where in the file the first goes, in bytes. Required.
   * @param options - `signal`.
   * @throws As {@link FileHandle.write}, for the first buffer that failed.
   */
  writev<B extends readonly Bytes[]>(
    buffers: B,
    position: number | bigint,
    options?: SignalOptions,
  ): Promise<WritevResult<B>> {
    return writev(this.#state, this, buffers, position, options)
  }

  /**
   * Reads many ranges of the file into one buffer, in one request: up to 1 048 576 of them. Ranges can touch and overlap in
   * the file, not in the buffer. Small neighbors are read together.
   *
   * The memory is the engine's until the promise settles. Lists of numbers are copied at the call.
   *
   * @param buffer - As of {@link FileHandle.read}.
   * @param ranges - `positions`, `lengths` (a list, or one number for all), `offsets` in the buffer (default: packed).
   * @param options - `exact` (default true), `partial`, `gap`, `priority`, `signal`.
   * @returns The number of bytes read, the buffer, and a receipt for all; `counts`, `statuses` and `errors` if asked for.
   * @throws As {@link FileHandle.read}, for the range with the lowest index: the error's `index`, `position`, `requested` and
   * `transferred` are that range's, and `errors` has at most 16 of them.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('vectors.bin', 'w+')
   * await file.write(Uint8Array.from({ length: 4096 }, (_, index) => index / 128), { position: 0 })
   * const { bytesRead, buffer } = await file.readMany(new Uint8Array(256), { positions: [17 * 128, 3 * 128], lengths: 128 })
   * console.log(bytesRead, buffer[0], buffer[128]) // 256 17 3
   * await file.close()
   * ```
   */
  readMany<B extends Bytes>(buffer: B, ranges: Ranges, options?: ReadManyOptions): Promise<ReadManyResult<B>> {
    try {
      return readMany(this.#state, this, buffer, ranges, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Writes many ranges of the file from one buffer, in one request. Neighbors are written together. If two ranges overlap
   * in the file, nothing is written.
   *
   * @param buffer - As of {@link FileHandle.write}.
   * @param ranges - As of {@link FileHandle.readMany}.
   * @param options - `priority`, `signal`.
   * @throws `ERR_DEEPRING_OVERLAP`; as {@link FileHandle.write}, for the range with the lowest index that was not written.
   * Any part of any other can have been.
   */
  writeMany<B extends Bytes>(buffer: B, ranges: Ranges, options?: WriteManyOptions): Promise<WriteManyResult<B>> {
    try {
      return writeMany(this.#state, this, buffer, ranges, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Appends memory or text to a file that was opened with `'a'`, `'a+'`, `'ax'` or `'ax+'`. Several that append to one file, in
   * any process, do not overwrite each other: the kernel puts one behind the other. One at a time is written; await it before
   * `sync`.
   *
   * @param buffer - As of {@link FileHandle.write}.
   * @param options - `offset` and `length` in bytes, `signal`.
   * @throws `ENOSPC`, `EDQUOT`, `EFBIG`, `EIO` with `transferred`; `ERR_DEEPRING_INVALID` if the file was opened with other
   * flags; as {@link FileHandle.write}.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const log = await open('events.log', 'a')
   * await log.append('first\n')
   * await log.append(Buffer.from('second\n'))
   * console.log((await log.stat()).size) // 13
   * await log.close()
   * ```
   */
  append<B extends Bytes>(buffer: B, options?: AppendOptions): Promise<AppendResult<B>>
  /** Text, as UTF-8. The result has the bytes of it as its buffer, in which `offset` and `length` count. */
  append(text: string, options?: AppendOptions): Promise<AppendResult<Buffer>>
  append(data: Bytes | string, options?: AppendOptions): Promise<AppendResult> {
    try {
      return append(this.#state, this, data, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * The file, or a part of it, as chunks of engine memory that go back one by one: the cheapest way through a large file.
   *
   * A chunk is yours until you dispose it, also after the loop has gone on or ended. Dispose it as soon as it is not needed:
   * its memory is read into again then. What is forgotten, the garbage collector gives back.
   *
   * @param options - `start`, `end` (included), `chunkSize`, `readAhead`, `priority`, `signal`.
   * @throws `EBADF`, `ERR_DEEPRING_CLOSED`; the iterator rejects as {@link FileHandle.read} with `exact`.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin')
   * let sum = 0
   * for await (const chunk of file.chunks()) {
   *   for (const byte of chunk.bytes) sum += byte
   *   chunk.dispose() // or `using chunk = ...`, where the runtime has it
   * }
   * console.log(sum) // 0
   * await file.close()
   * ```
   */
  chunks(options?: ChunkOptions): AsyncGenerator<Chunk, undefined, undefined> {
    return chunks(this.#state, this, spanOf(optionsOf(options, CHUNK_KEYS)))
  }

  /**
   * Writes the file, or a part of it, to a stream, and ends the stream.
   *
   * A `net.Socket`, a response of HTTP/1 and a write stream of `node:fs` or of deepring get each chunk on loan, in memory that is read
   * into again when they have called back. To any other stream the chunks are given for good, because it can keep them. The
   * result says which. If anything fails, or `signal` is aborted, the stream is destroyed.
   *
   * @param sink - A `Writable` or a `WritableStream`.
   * @param options - `start`, `end` (included), `chunkSize`, `readAhead`, `priority`, `onProgress`, `preventClose`, `signal`.
   * @throws The error of the stream, `ERR_STREAM_PREMATURE_CLOSE` if it was closed; as {@link FileHandle.read} with `exact`.
   *
   * @example
   * ```ts
   * import { createWriteStream } from 'node:fs'
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin')
   * const { bytes, lent } = await file.pipeTo(createWriteStream('copy.bin'), { start: 100, end: 199 })
   * console.log(bytes, lent) // 100 true
   * await file.close()
   * ```
   */
  pipeTo(sink: Writable | WritableStream<Uint8Array>, options?: PipeOptions): Promise<PipeResult> {
    return pipe(this.#state, this, sink, options)
  }

  /**
   * A stream of Node of the file, or of a part of it. Its chunks are the consumer's, in memory that the garbage collector gives
   * back; `chunks` and `pipeTo` take a quarter of the CPU.
   *
   * @param options - `start`, `end` (included), `highWaterMark`, `readAhead`, `encoding`, `autoClose` (default true),
   * `priority`, `signal`.
   *
   * @example
   * ```ts
   * import { createGzip } from 'node:zlib'
   * import { pipeline } from 'node:stream/promises'
   * import { open } from 'deepring'
   *
   * const [from, to] = [await open('weights.bin'), await open('weights.bin.gz', 'w')]
   * await pipeline(from.createReadStream(), createGzip(), to.createWriteStream())
   * console.log(from.closed, to.closed) // true true
   * ```
   */
  createReadStream(options?: ReadStreamOptions): Readable {
    return createReadStream(this.#state, this, () => this.close(), options)
  }

  /**
   * A web stream of bytes of the file, or of a part of it. A reader of mode `'byob'` has its views filled without a copy.
   *
   * @param options - `start`, `end` (included), `chunkSize`, `readAhead`, `autoClose` (default false), `priority`, `signal`.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin')
   * const response = new Response(file.readableWebStream({ autoClose: true }))
   * console.log((await response.arrayBuffer()).byteLength, file.closed) // 1000 true
   * ```
   */
  readableWebStream(options?: WebStreamOptions): ReadableStream<Uint8Array<ArrayBuffer>> {
    return readableWebStream(this.#state, this, () => this.close(), options)
  }

  /**
   * A stream of Node that writes the file. Small pieces are gathered to blocks of 8 MiB; the end is exact. The file is not
   * shortened.
   *
   * @param options - `start`, `highWaterMark`, `flush`, `autoClose` (default true), `signal`.
   *
   * @example
   * ```ts
   * import { Readable } from 'node:stream'
   * import { pipeline } from 'node:stream/promises'
   * import { open } from 'deepring'
   *
   * const file = await open('numbers.txt', 'w')
   * await pipeline(Readable.from(['one\n', 'two\n']), file.createWriteStream({ flush: true }))
   * ```
   */
  createWriteStream(options?: WriteStreamOptions): Writable {
    return createWriteStream(this.#state, this, () => this.close(), options)
  }

  /**
   * The file as parsers take it that read parts of it, such as hyparquet.
   *
   * @param options - `signal`, for all reads.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin')
   * const buffer = await file.asyncBuffer()
   * console.log(buffer.byteLength, (await buffer.slice(-4)).byteLength) // 1000 4
   * await file.close()
   * ```
   */
  asyncBuffer(options?: SignalOptions): Promise<AsyncBuffer> {
    return asyncBuffer(this.#state, this, options)
  }

  /**
   * The CRC-32C of a range of the file, read at the speed of the drive. No memory of it reaches JavaScript: the engine
   * reads into at most 64 MiB of its own, and sums on its threads.
   *
   * @param options - `position` and `length` in bytes, `chunk` for one checksum per chunk, `priority`, `onProgress`, `signal`.
   * @returns A whole number from 0 to 2^32 - 1; with `chunk`, a `Uint32Array` with one for each.
   * @throws `ERR_DEEPRING_EOF` if the range reaches past the end of the file; `EBADF` if it was opened for writing only;
   * `ERR_DEEPRING_CLOSED`; the system's errors (`EIO`). Their `position` and `requested` are those of the range.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin', 'w+')
   * await file.write(new TextEncoder().encode('123456789'), { position: 0 })
   * console.log((await file.checksum()).toString(16)) // e3069283
   * console.log((await file.checksum({ chunk: 4 })).length) // 3
   * await file.close()
   * ```
   */
  checksum(options: ChecksumOptions & { chunk: number | bigint }): Promise<Uint32Array>
  checksum(options?: ChecksumOptions & { chunk?: undefined }): Promise<number>
  checksum(options?: ChecksumOptions): Promise<number | Uint32Array>
  checksum(options?: ChecksumOptions): Promise<number | Uint32Array> {
    try {
      return checksum(this.#state, this, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Makes everything written so far survive a power cut: the bytes of every write accepted before this call, the length,
   * and the file's metadata. A `truncate` that has not finished, and writes by path whose file is not open yet, are not
   * covered: await them first.
   *
   * @throws `EIO` and similar errors; from then on `ERR_DEEPRING_SYNC_FAILED` for this file in the whole process,
   * because after a failed sync the kernel no longer knows which bytes are missing.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin', 'w', { syncDirectory: true }) // the name survives a power cut, too
   * await file.write(new Uint8Array(4096), { position: 0 })
   * await file.sync()
   * await file.close()
   * ```
   */
  sync(options?: SignalOptions): Promise<void> {
    return sync(this.#state, this, false, options)
  }

  /**
   * As {@link FileHandle.sync}, but without metadata that is not needed to read the bytes back, such as times. Cheaper.
   */
  datasync(options?: SignalOptions): Promise<void> {
    return sync(this.#state, this, true, options)
  }

  /**
   * Length, times and other metadata of the file.
   *
   * @param options - `bigint`: true for exact numbers, see {@link BigIntFileStat}; `signal`.
   */
  stat(options: StatOptions & { bigint: true }): Promise<BigIntFileStat>
  stat(options?: StatOptions & { bigint?: false | undefined }): Promise<FileStat>
  stat(options?: StatOptions): Promise<FileStat | BigIntFileStat>
  stat(options?: StatOptions): Promise<FileStat | BigIntFileStat> {
    try {
      return stat(this.#state, this, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Sets the length of the file: shortens it, or extends it with zeros.
   *
   * @param length - The new length in bytes. Default 0.
   * @throws `EBADF` if the file was opened for reading only; `EFBIG`; `ERR_DEEPRING_CLOSED`.
   *
   * @example
   * ```ts
   * import { open } from 'deepring'
   *
   * const file = await open('weights.bin', 'r+')
   * await file.truncate(10)
   * console.log((await file.stat()).size) // 10
   * await file.close()
   * ```
   */
  truncate(length: number | bigint = 0, options?: SignalOptions): Promise<void> {
    try {
      return truncate(this.#state, this, length, options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * A token for other threads of this process: post it to a worker, which opens the same file with {@link FileHandle.from}. The
   * descriptor, and what was found out about the file, is one for all. It is closed by the last thread that closes it, so keep it
   * open until the others have it.
   *
   * @throws `ERR_DEEPRING_CLOSED`.
   *
   * @example
   * ```ts
   * import { FileHandle, open } from 'deepring'
   *
   * const file = await open('weights.bin')
   * const token = structuredClone(file.share()) // as a worker gets it
   * await using other = FileHandle.from(token)
   * await file.close()
   * console.log((await other.read(new Uint8Array(8), { position: 0 })).bytesRead) // 8
   * ```
   */
  share(): SharedFile {
    checkFileOpen(this.#state, 'share')
    return shareOf(this.#state)
  }

  /**
   * Opens what another thread has shared.
   *
   * @param token - What {@link FileHandle.share} has returned.
   * @throws `ERR_DEEPRING_CLOSED` if all threads have closed the file; `ERR_DEEPRING_INVALID_ARG_TYPE`.
   */
  static from(token: SharedFile): FileHandle {
    const { shared, engine, opened } = openShared(token)
    const { owner, state } = engineNumbered(engine)
    return makeHandle(new FileState(state, shared.path, shared.flags, flagsOf(shared.flags), opened), owner)
  }

  /** What `String(file)` is. */
  override toString(): string {
    return `FileHandle '${this.path}'`
  }

  /**
   * Closes the file, after the requests on it have settled. Requests from now on are refused. Calling it again returns
   * the same promise.
   */
  close(): Promise<void> {
    try {
      leaked.unregister(this.#state)
      return this.#state.close()
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /** Closes the file: for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** How a file that another thread has shared finds its engine. Engines open files, so files do not import engines. */
export function findEnginesBy(find: typeof engineNumbered): void {
  engineNumbered = find
}

/** A handle for a file that the engine `owner` has opened. */
export function makeHandle(state: FileState, owner: Engine): FileHandle {
  state.engine.files.add(state)
  return make(state, owner)
}

/** Whether a value is a handle of this copy of the package. */
export function isFileHandle(value: unknown): value is FileHandle {
  return typeof value === 'object' && value !== null && isMade(value)
}

/** The state of a handle. */
export function stateOf(file: FileHandle): FileState {
  return stateIn(file)
}

brand('FileHandle', FileHandle.prototype, ({ path, fd, direct, backend, closed }) => ({
  path,
  fd,
  direct,
  backend,
  closed,
}))

// V8 puts it into the error of `postMessage(file)` and `structuredClone(file)`: what to do instead.
Object.defineProperty(FileHandle.prototype, Symbol.toStringTag, {
  value: 'FileHandle; send file.share() instead',
  configurable: true,
})
