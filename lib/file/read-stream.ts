/** Streams that read a file: Node's and the web's. Their chunks are the consumer's. */

import { Buffer } from 'node:buffer'
import { Readable } from 'node:stream'
import { ReadableStream, type ReadableByteStreamController, type ReadableStreamBYOBRequest } from 'node:stream/web'
import { AbortError, linked, onAbort, type Linked } from '../core/abort.ts'
import { track } from '../core/completions.ts'
import { booleanOf, optionsOf } from '../core/options.ts'
import { allocateBuffer, type EngineBuffer } from '../memory/buffer.ts'
import { checkFileOpen, checkReadable, stageRead, type FileState, type ReadResult } from './file-state.ts'
import { Reader, sizeOf, type Piece } from './reader.ts'
import { CHUNK_KEYS, SPAN_KEYS, spanOf, type ChunkOptions, type Span, type SpanOptions } from './span.ts'

/** Options of `FileHandle.createReadStream`. */
export interface ReadStreamOptions extends SpanOptions {
  /** Bytes of a chunk: chunks begin at multiples of it. Default 1 MiB. */
  highWaterMark?: number | bigint | undefined
  /** With it, chunks are strings. Default: they are Buffers. */
  encoding?: BufferEncoding | undefined
  /** True: the file is closed at the end, by an error, and when the stream is destroyed. Default true. */
  autoClose?: boolean | undefined
}

/** Options of `FileHandle.readableWebStream`. */
export interface WebStreamOptions extends ChunkOptions {
  /** True: the file is closed at the end, by an error, and when the stream is canceled. Default false. */
  autoClose?: boolean | undefined
}

const NODE_KEYS: ReadonlySet<string> = new Set([...SPAN_KEYS, 'highWaterMark', 'encoding', 'autoClose'])
const WEB_KEYS: ReadonlySet<string> = new Set([...CHUNK_KEYS, 'autoClose'])

/** A Buffer over memory that the garbage collector gives back: the consumer's for ever. */
function ownBuffer(memory: Uint8Array<ArrayBuffer>): Buffer {
  return Buffer.from(memory.buffer, memory.byteOffset, memory.byteLength)
}

/** See `FileHandle.createReadStream`. */
export function createReadStream(
  state: FileState,
  owner: object,
  close: () => Promise<void>,
  options?: ReadStreamOptions,
): Readable {
  const given = optionsOf(options, NODE_KEYS)
  const span = spanOf(given, given.highWaterMark, 'highWaterMark')
  const autoClose = booleanOf(given.autoClose, 'options.autoClose', true)
  const reader = new Reader(state, owner, span, (bytes) => allocateBuffer(state.engine, bytes, false))
  const { chunkBytes, signal } = span
  const stream = new FileReadable(reader, chunkBytes, given.encoding, autoClose ? close : undefined)
  stream.once(
    'close',
    onAbort(signal, () => stream.destroy(new AbortError(signal as AbortSignal))),
  )
  return stream
}

class FileReadable extends Readable {
  readonly #reader: Reader<EngineBuffer>
  readonly #close: (() => Promise<void>) | undefined

  constructor(
    reader: Reader<EngineBuffer>,
    highWaterMark: number,
    encoding: BufferEncoding | undefined,
    close: (() => Promise<void>) | undefined,
  ) {
    super({ highWaterMark, ...(encoding === undefined ? {} : { encoding }) })
    this.#reader = reader
    this.#close = close
  }

  override _read(): void {
    void this.#fill()
  }

  async #fill(): Promise<void> {
    let piece: Piece<EngineBuffer> | undefined
    try {
      piece = await this.#reader.next()
    } catch (error) {
      this.destroy(error as Error)
      return
    }
    if (this.destroyed) piece?.memory[Symbol.dispose]()
    else this.push(piece === undefined ? null : ownBuffer(piece.memory))
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    void this.#end(error, done)
  }

  async #end(error: Error | null, done: (error?: Error | null) => void): Promise<void> {
    let failure = error
    try {
      await this.#reader.stop()
      await this.#close?.()
    } catch (failed) {
      failure ??= failed as Error
    }
    done(failure)
  }
}

/** See `FileHandle.readableWebStream`. */
export function readableWebStream(
  state: FileState,
  owner: object,
  close: () => Promise<void>,
  options?: WebStreamOptions,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const given = optionsOf(options, WEB_KEYS)
  const span = spanOf(given)
  const autoClose = booleanOf(given.autoClose, 'options.autoClose', false)
  const source = new ByteSource(state, owner, span, autoClose ? close : undefined)
  return new ReadableStream(source, { highWaterMark: 0 }) as ReadableStream<Uint8Array<ArrayBuffer>>
}

/**
 * What a web stream pulls. A reader that brings its own view is read into that. Others get memory of the runtime, which can be
 * transferred, as streams of bytes do with theirs.
 */
class ByteSource {
  readonly type = 'bytes' as const
  readonly #state: FileState
  readonly #owner: object
  readonly #span: Span
  readonly #close: (() => Promise<void>) | undefined
  #link: Linked | undefined
  #position: number
  #end: number
  /** Once a reader without views has asked. */
  #reader: Reader<Uint8Array<ArrayBuffer>> | undefined

  constructor(state: FileState, owner: object, span: Span, close: (() => Promise<void>) | undefined) {
    checkFileOpen(state, 'read')
    checkReadable(state)
    this.#state = state
    this.#owner = owner
    this.#span = span
    this.#close = close
    this.#position = span.start
    this.#end = span.end
  }

  async pull(controller: ReadableByteStreamController): Promise<void> {
    try {
      const request = controller.byobRequest
      if (this.#reader === undefined && request !== null) await this.#fill(controller, request)
      else await this.#enqueue(controller)
    } catch (error) {
      await this.#stop()
      throw error
    }
  }

  /** Nobody wants the rest. */
  async cancel(): Promise<void> {
    await this.#stop()
  }

  async #fill(controller: ReadableByteStreamController, request: ReadableStreamBYOBRequest): Promise<void> {
    if (this.#link === undefined) {
      this.#link = linked(this.#span.signal)
      this.#end = Math.min(this.#end, await sizeOf(this.#state, this.#owner, this.#link.controller.signal))
    }
    const { buffer, byteOffset, byteLength } = request.view as Uint8Array
    const length = Math.min(byteLength, this.#end - this.#position)
    if (length <= 0) {
      await this.#stop()
      controller.close()
      return request.respond(0)
    }
    const view = new Uint8Array(buffer, byteOffset, length)
    const operation = stageRead(this.#state, view, view, this.#position, true, this.#span.priority)
    operation.owner = this.#owner
    await track<ReadResult>(operation, this.#link.controller.signal)
    this.#position += length
    request.respond(length)
  }

  async #enqueue(controller: ReadableByteStreamController): Promise<void> {
    const span = { ...this.#span, start: this.#position }
    this.#reader ??= new Reader(this.#state, this.#owner, span, (bytes) => new Uint8Array(bytes))
    const piece = await this.#reader.next()
    if (piece !== undefined) return controller.enqueue(piece.memory)
    await this.#stop()
    controller.close()
    controller.byobRequest?.respond(0)
  }

  async #stop(): Promise<void> {
    this.#link?.controller.abort()
    this.#link?.unlink()
    await this.#reader?.stop()
    await this.#close?.()
  }
}
