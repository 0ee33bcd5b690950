/**
 * Writes bytes that come in pieces of any size as whole blocks: {@link BlockWriter}.
 *
 * ```text
 *   write(bytes) ──copied──► a block of engine memory ──full──► in flight, while the next one is filled
 *        └── a large piece: written from its own memory, and waited for
 * ```
 *
 * Blocks end at multiples of their size in the file. Only the last one is shorter, and is written as it is. One is in flight
 * at a time: a file system makes room for a block under the lock that writes to the file need, so that two at once would wait
 * for each other in threads of the kernel. Appends would change places.
 */

import { linked, type Linked } from '../core/abort.ts'
import { track } from '../core/completions.ts'
import { closed } from '../core/errors.ts'
import { allocateBuffer, type EngineBuffer } from '../memory/buffer.ts'
import { append } from './append.ts'
import { checkFileOpen, checkWritable, stageWrite, type FileState, type WriteResult } from './file-state.ts'

/** Bytes of a block: two of what the engine gives to a device at once, so that a device is busy with one request. */
const BLOCK_BYTES = 8 << 20

/** See the module. */
export class BlockWriter {
  readonly #state: FileState
  readonly #owner: object
  readonly #link: Linked
  /** Where the first byte of the block, or the next one, goes. */
  #position: number
  #block: EngineBuffer | undefined
  #filled = 0
  /** The block that is in flight, or was last. */
  #spare: EngineBuffer | undefined
  #writing: Promise<void> | undefined
  /** Bytes that were taken. */
  #taken = 0
  #failure: { readonly error: unknown } | undefined

  /** @param position - Where the first byte goes; it does not count for a file that was opened for appending. */
  constructor(state: FileState, owner: object, position: number, signal: AbortSignal | null) {
    checkFileOpen(state, 'write')
    checkWritable(state, 'write')
    this.#state = state
    this.#owner = owner
    this.#position = state.appends ? 0 : position
    this.#link = linked(signal)
  }

  /** Bytes that were taken so far. */
  get bytes(): number {
    return this.#taken
  }

  /** Takes bytes. Their memory is the caller's again when the promise settles. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength;) {
      this.#check()
      const left = bytes.byteLength - at
      const room = BLOCK_BYTES - (this.#position % BLOCK_BYTES) - this.#filled
      const isLarge = this.#filled === 0 && room === BLOCK_BYTES && left >= BLOCK_BYTES
      const length = isLarge ? left - (left % BLOCK_BYTES) : Math.min(left, room)
      const part = bytes.subarray(at, at + length)
      if (isLarge) await this.#putFrom(part)
      else await this.#gather(part)
      at += length
      this.#taken += length
    }
  }

  /** Writes what is left, and waits for all. Returns the bytes. */
  async end(): Promise<number> {
    try {
      this.#check()
      await this.#flush()
      await this.#writing
      this.#check()
      return this.#taken
    } finally {
      await this.stop()
    }
  }

  /** Ends what is in flight, and waits until its memory is free. */
  async stop(): Promise<void> {
    this.#failure ??= { error: closed('stream', 'write', this.#state.path) }
    this.#link.controller.abort()
    this.#link.unlink()
    await this.#writing
    for (const block of [this.#block, this.#spare]) block?.[Symbol.dispose]()
    this.#block = undefined
    this.#spare = undefined
    this.#filled = 0
  }

  /** Copies into the block, which has room. */
  async #gather(part: Uint8Array): Promise<void> {
    this.#block ??= allocateBuffer(this.#state.engine, BLOCK_BYTES, false)
    this.#block.set(part, this.#filled)
    this.#filled += part.byteLength
    if ((this.#position + this.#filled) % BLOCK_BYTES === 0) await this.#flush()
  }

  async #putFrom(part: Uint8Array): Promise<void> {
    await this.#writing
    await this.#put(part)
    this.#check()
  }

  /** Begins to write the block, once the one before it is written. */
  async #flush(): Promise<void> {
    if (this.#block === undefined || this.#filled === 0) return
    await this.#writing
    this.#check()
    const [block, filled] = [this.#block, this.#filled]
    this.#block = this.#spare
    this.#spare = block
    this.#filled = 0
    this.#writing = this.#put(block.subarray(0, filled))
  }

  /** Writes at the current position. A failure is thrown by the next call. */
  async #put(view: Uint8Array): Promise<void> {
    const position = this.#position
    this.#position += view.byteLength
    const { signal } = this.#link.controller
    try {
      if (this.#state.appends) await append(this.#state, this.#owner, view, { signal })
      else {
        const operation = stageWrite(this.#state, view, view, position, 0)
        operation.owner = this.#owner
        await track<WriteResult>(operation, signal)
      }
    } catch (error) {
      this.#failure ??= { error }
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
