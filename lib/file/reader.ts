/**
 * Reads a part of a file ahead of its consumer, piece by piece: {@link Reader}.
 *
 * ```text
 *   make(bytes) ──► read ──► ahead: at most so many pieces, in their order ──► next()
 *                                        └── stop(): canceled, waited for, and given back
 * ```
 *
 * It begins with one piece ahead, and doubles that whenever the consumer has to wait, up to what is allowed. So a stream to a
 * slow client holds little memory, and a fast one keeps the device busy.
 *
 * Memory is whatever `make` returns. A piece belongs to the reader until `next` returns it.
 */

import { linked, type Linked } from '../core/abort.ts'
import { track } from '../core/completions.ts'
import { stat } from './control.ts'
import { checkFileOpen, checkReadable, stageRead, type FileState, type ReadResult } from './file-state.ts'
import type { Span } from './span.ts'

/** Memory that can be given back. */
export interface PieceMemory extends Uint8Array<ArrayBuffer> {
  [Symbol.dispose]?: () => void
}

/** A part of the file. */
export interface Piece<M extends PieceMemory> {
  readonly memory: M
  /** Where it is in the file. */
  readonly position: number
}

/** A piece that was asked for. */
interface Ahead<M extends PieceMemory> {
  readonly piece: Promise<Piece<M>>
  /** It has come, or failed. */
  isSettled: boolean
}

/** The length of a file. */
export async function sizeOf(state: FileState, owner: object, signal: AbortSignal | null): Promise<number> {
  const { size } = await stat(state, owner, { signal: signal ?? undefined })
  return Number(size)
}

/** See the module. */
export class Reader<M extends PieceMemory> {
  readonly #state: FileState
  readonly #owner: object
  readonly #span: Span
  readonly #make: (bytes: number) => M
  readonly #ahead: Ahead<M>[] = []
  /** Pieces that are read ahead now. */
  #depth: number
  #position: number
  /** Behind the last byte; once it has begun, within the file. */
  #end: number
  #link: Linked | undefined
  #stopped = false

  /** @param owner - Its handle, which is held while it reads. */
  constructor(state: FileState, owner: object, span: Span, make: (bytes: number) => M) {
    checkFileOpen(state, 'read')
    checkReadable(state)
    this.#state = state
    this.#owner = owner
    this.#span = span
    this.#make = make
    this.#depth = Math.min(1, span.ahead)
    this.#position = span.start
    this.#end = span.end
  }

  /** The next piece; `undefined` at the end. One call at a time. */
  async next(): Promise<Piece<M> | undefined> {
    if (this.#link === undefined) await this.#begin()
    this.#fill(Math.max(1, this.#depth))
    const first = this.#ahead.shift()
    if (first === undefined) return undefined
    if (!first.isSettled) this.#depth = Math.min(2 * this.#depth, this.#span.ahead)
    const piece = await first.piece
    // While the consumer has this one, the next are read.
    this.#fill(this.#depth)
    return piece
  }

  /** Ends the reads ahead, and waits until their memory is free. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#link?.controller.abort()
    this.#link?.unlink()
    const pieces = await Promise.allSettled(this.#ahead.map(({ piece }) => piece))
    for (const piece of pieces) if (piece.status === 'fulfilled') piece.value.memory[Symbol.dispose]?.()
    this.#ahead.length = 0
  }

  async #begin(): Promise<void> {
    this.#link = linked(this.#span.signal)
    const size = await sizeOf(this.#state, this.#owner, this.#link.controller.signal)
    this.#end = Math.min(this.#end, size)
  }

  #fill(pieces: number): void {
    while (!this.#stopped && this.#ahead.length < pieces && this.#position < this.#end) {
      const piece = this.#read()
      const ahead: Ahead<M> = { piece, isSettled: false }
      const settled = (): void => void (ahead.isSettled = true)
      // What fails is seen when it is its turn.
      piece.then(settled, settled)
      this.#ahead.push(ahead)
    }
  }

  async #read(): Promise<Piece<M>> {
    const { chunkBytes, priority } = this.#span
    const position = this.#position
    const end = Math.min(this.#end, position - (position % chunkBytes) + chunkBytes)
    this.#position = end
    const memory = this.#make(end - position)
    try {
      const operation = stageRead(this.#state, memory, memory, position, true, priority)
      operation.owner = this.#owner
      await track<ReadResult>(operation, (this.#link as Linked).controller.signal)
      return { memory, position }
    } catch (error) {
      memory[Symbol.dispose]?.()
      throw error
    }
  }
}
