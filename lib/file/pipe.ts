/**
 * From a file into a stream: {@link pipe}.
 *
 * ```text
 *   Reader ──► chunk ──► sink.write(chunk, called back)
 *     ▲                      lent: the next one is read into its memory after the callback, and not before
 *     └──────── Loans ◄──────┘
 *                            else: it is the sink's, and the garbage collector gives its memory back
 * ```
 */

import { Buffer } from 'node:buffer'
import { finished, type Writable } from 'node:stream'
import { setImmediate } from 'node:timers'
import type { WritableStream } from 'node:stream/web'
import { AbortError, linked } from '../core/abort.ts'
import { closed, invalidType } from '../core/errors.ts'
import { booleanOf, optionsOf } from '../core/options.ts'
import { onProgressOf, Tally, type OnProgress, type ProgressOptions } from '../core/progress.ts'
import type { EngineState } from '../core/engine-state.ts'
import { allocateBuffer, type EngineBuffer } from '../memory/buffer.ts'
import type { FileState } from './file-state.ts'
import { Reader, sizeOf, type PieceMemory } from './reader.ts'
import { consumesByCallback } from './sinks.ts'
import { CHUNK_KEYS, spanOf, type ChunkOptions, type Span } from './span.ts'

/** Options of `FileHandle.pipeTo`. */
export interface PipeOptions extends ChunkOptions, ProgressOptions {
  /** True: the stream is left open at the end. Default false. */
  preventClose?: boolean | undefined
}

/** What `FileHandle.pipeTo` did. */
export interface PipeResult {
  /** Bytes that the stream has taken: all that were asked for. */
  readonly bytes: number
  /**
   * True if the stream got its chunks on loan, in memory that is used again once it has called back. False if they are its
   * own.
   */
  readonly lent: boolean
}

const KEYS: ReadonlySet<string> = new Set([...CHUNK_KEYS, 'onProgress', 'preventClose'])

/** Chunks that a stream has on loan at once: one that it writes, and the next. */
const LENT_MIN = 2

/** The same of a stream that has had none left to write. */
const LENT_MAX = 4

/** See `FileHandle.pipeTo`. */
export async function pipe(state: FileState, owner: object, sink: unknown, options?: PipeOptions): Promise<PipeResult> {
  const given = optionsOf(options, KEYS)
  const span = spanOf(given)
  const onProgress = onProgressOf(given.onProgress)
  const leavesOpen = booleanOf(given.preventClose, 'options.preventClose', false)
  if (isWebStream(sink)) return pipeToWeb({ state, owner, span, onProgress, leavesOpen }, sink)
  if (isNodeStream(sink)) return pipeToNode({ state, owner, span, onProgress, leavesOpen }, sink)
  throw invalidType('sink', 'a Writable or a WritableStream', sink)
}

/** A call whose options were checked. */
interface Call {
  readonly state: FileState
  readonly owner: object
  readonly span: Span
  readonly onProgress: OnProgress | undefined
  readonly leavesOpen: boolean
}

function isWebStream(sink: unknown): sink is WritableStream<Uint8Array> {
  return typeof (sink as { getWriter?: unknown } | null)?.getWriter === 'function'
}

function isNodeStream(sink: unknown): sink is Writable {
  const { write, end, on } = (sink ?? {}) as Partial<Writable>
  return typeof write === 'function' && typeof end === 'function' && typeof on === 'function'
}

/** Runs `body` with a reader of the part, and a controller that ends its reads. */
async function reading<M extends PieceMemory>(
  { state, owner, span, onProgress }: Call,
  make: (bytes: number) => M,
  body: (reader: Reader<M>, tally: Tally, stop: AbortController) => Promise<void>,
): Promise<number> {
  const { controller, unlink } = linked(span.signal)
  try {
    const size = await sizeOf(state, owner, controller.signal)
    const end = Math.min(span.end, size)
    const tally = new Tally(onProgress, Math.max(0, end - span.start))
    const reader = new Reader(state, owner, { ...span, end, signal: controller.signal }, make)
    try {
      await body(reader, tally, controller)
    } finally {
      await reader.stop()
    }
    tally.finish()
    return tally.bytes
  } finally {
    unlink()
  }
}

/** Streams whose failure was reported to the caller. */
function ignore(): void {}

async function pipeToNode(call: Call, sink: Writable): Promise<PipeResult> {
  const { engine } = call.state
  const loans = consumesByCallback(sink) ? new Loans(engine) : undefined
  const lent = loans !== undefined
  try {
    const bytes = await reading<PieceMemory>(
      call,
      (size) => (loans === undefined ? allocateBuffer(engine, size, false) : loans.take(size)),
      async (reader, tally, stop) => {
        const target = new Target(sink, stop)
        try {
          for (let piece = await reader.next(); piece !== undefined; piece = await reader.next()) {
            const { memory } = piece
            const chunk = Buffer.from(memory.buffer, memory.byteOffset, memory.byteLength)
            const { length } = chunk
            if (lent) await target.lend(chunk, () => memory[Symbol.dispose]?.())
            else await target.give(chunk)
            tally.add(length)
          }
          await target.end(call.leavesOpen)
        } catch (error) {
          throw target.failure === undefined ? error : target.failure.error
        } finally {
          target.leave()
        }
      },
    )
    return { bytes, lent }
  } catch (error) {
    sink.on('error', ignore)
    sink.destroy(error as Error)
    throw error
  } finally {
    loans?.end()
  }
}

/**
 * The memory of chunks that are lent, which is used again and again. What is not back at the end is still the stream's, and left
 * to the garbage collector.
 */
class Loans {
  readonly #engine: EngineState
  readonly #back: EngineBuffer[] = []
  #isOver = false

  constructor(engine: EngineState) {
    this.#engine = engine
  }

  /** Its disposal gives it back. */
  take(bytes: number): PieceMemory {
    const whole = this.#reuse(bytes) ?? allocateBuffer(this.#engine, bytes, false)
    const memory: PieceMemory = whole.subarray(0, bytes)
    memory[Symbol.dispose] = () => {
      if (this.#isOver) whole[Symbol.dispose]()
      else this.#back.push(whole)
    }
    return memory
  }

  /** No more is read. */
  end(): void {
    this.#isOver = true
    for (const whole of this.#back.splice(0)) whole[Symbol.dispose]()
  }

  /** Only the first chunk and the last can be shorter than the others. */
  #reuse(bytes: number): EngineBuffer | undefined {
    const whole = this.#back.pop()
    if (whole === undefined || whole.byteLength >= bytes) return whole
    whole[Symbol.dispose]()
    return undefined
  }
}

/** A stream that is written to, and what it has reported. */
class Target {
  /** Why it takes no more. */
  failure: { readonly error: unknown } | undefined
  readonly #sink: Writable
  readonly #stop: AbortController
  readonly #unwatch: () => void
  /** Chunks on loan, and how many can be. */
  #lent = 0
  #lentMost = LENT_MIN
  #isFull = false
  #isOver = false
  #wake: () => void = ignore

  /** @param stop - Aborted if the stream fails. */
  constructor(sink: Writable, stop: AbortController) {
    this.#sink = sink
    this.#stop = stop
    this.#unwatch = finished(sink, { readable: false }, (error) => {
      this.#isOver = true
      if (error) this.#fail(error)
      else this.#wake()
    })
    sink.on('drain', this.#onDrain)
    stop.signal.addEventListener('abort', () => this.#wake(), { once: true })
  }

  /** Writes a chunk, and waits while others are on loan. `free` is called when the stream has consumed it. */
  async lend(chunk: Buffer, free: () => void): Promise<void> {
    this.#checkOpen()
    this.#lent += 1
    this.#sink.write(chunk, (error) => {
      if (error) {
        // What the stream still has of it is unknown. Its own event, which comes first, says better why it has failed.
        setImmediate(() => this.#fail(error))
        return
      }
      this.#lent -= 1
      if (this.#lent === 0) this.#lentMost = Math.min(2 * this.#lentMost, LENT_MAX)
      free()
      this.#wake()
    })
    await this.#until(() => this.#lent < this.#lentMost)
  }

  /** Writes a chunk that is the stream's from now on, and waits while the stream is full. */
  async give(chunk: Buffer): Promise<void> {
    this.#checkOpen()
    // Without a callback: what stands in for `write` (compression) can leave it out.
    this.#isFull = !this.#sink.write(chunk)
    await this.#until(() => !this.#isFull)
  }

  /** Waits until everything is written. */
  async end(leavesOpen: boolean): Promise<void> {
    if (!leavesOpen) this.#sink.end()
    await this.#until(() => (leavesOpen ? this.#lent === 0 : this.#isOver))
  }

  leave(): void {
    this.#unwatch()
    this.#sink.off('drain', this.#onDrain)
  }

  readonly #onDrain = (): void => {
    this.#isFull = false
    this.#wake()
  }

  /** Something else has ended it. */
  #checkOpen(): void {
    if (this.#isOver || this.#sink.writableEnded) throw closed('stream', 'write')
  }

  #fail(error: unknown): void {
    this.failure ??= { error }
    this.#stop.abort(error)
  }

  async #until(isReached: () => boolean): Promise<void> {
    for (;;) {
      if (this.failure !== undefined) throw this.failure.error
      if (this.#stop.signal.aborted) throw new AbortError(this.#stop.signal)
      if (isReached()) return
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

async function pipeToWeb(call: Call, sink: WritableStream<Uint8Array>): Promise<PipeResult> {
  const writer = sink.getWriter()
  let failure: { readonly error: unknown } | undefined
  try {
    const bytes = await reading(
      call,
      (size) => new Uint8Array(size),
      async (reader, tally, stop) => {
        // A stream that fails ends the reads, also while one is waited for.
        writer.closed.catch((error: unknown) => {
          failure ??= { error }
          stop.abort(error)
        })
        let last: Promise<void> | undefined
        for (let piece = await reader.next(); piece !== undefined; piece = await reader.next()) {
          await writer.ready
          last = writer.write(piece.memory)
          // What becomes of it is seen by what follows.
          last.catch(ignore)
          tally.add(piece.memory.byteLength)
        }
        await last
        if (!call.leavesOpen) await writer.close()
      },
    )
    return { bytes, lent: false }
  } catch (error) {
    await writer.abort(error).catch(ignore)
    throw failure === undefined ? error : failure.error
  } finally {
    writer.releaseLock()
  }
}
