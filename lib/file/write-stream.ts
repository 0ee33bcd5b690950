/** Streams that write a file: {@link createWriteStream}. */

import { Buffer } from 'node:buffer'
import { Writable } from 'node:stream'
import { AbortError, onAbort, signalOf } from '../core/abort.ts'
import { invalidValue } from '../core/errors.ts'
import { booleanOf, bytesOf, integerOf, optionsOf, type SignalOptions } from '../core/options.ts'
import { BlockWriter } from './block-writer.ts'
import { sync as syncFile } from './control.ts'
import type { FileState } from './file-state.ts'

/** Options of `FileHandle.createWriteStream`. */
export interface WriteStreamOptions extends SignalOptions {
  /** Where the first byte goes, in bytes. Default 0. Not for files that were opened for appending. */
  start?: number | bigint | undefined
  /** Bytes that wait in the stream before `write` returns false. Default 1 MiB. */
  highWaterMark?: number | undefined
  /** True: before `finish`, the bytes are flushed, so that they survive a power cut. Default false. */
  flush?: boolean | undefined
  /** True: the file is closed at the end, by an error, and when the stream is destroyed. Default true. */
  autoClose?: boolean | undefined
}

const KEYS: ReadonlySet<string> = new Set(['start', 'highWaterMark', 'flush', 'autoClose', 'signal'])

const WAITING_BYTES = 1 << 20

/** See `FileHandle.createWriteStream`. */
export function createWriteStream(
  state: FileState,
  owner: object,
  close: () => Promise<void>,
  options?: WriteStreamOptions,
): Writable {
  const given = optionsOf(options, KEYS)
  if (state.appends && given.start !== undefined)
    throw invalidValue('options.start', `With the flags '${state.flags}', everything goes to the end.`, given.start)
  const start = given.start === undefined ? 0 : bytesOf(given.start, 'options.start')
  const highWaterMark =
    given.highWaterMark === undefined
      ? WAITING_BYTES
      : integerOf(given.highWaterMark, 'options.highWaterMark', 0, Number.MAX_SAFE_INTEGER)
  const flush = booleanOf(given.flush, 'options.flush', false)
  const autoClose = booleanOf(given.autoClose, 'options.autoClose', true)
  const signal = signalOf(given.signal)
  const writer = new BlockWriter(state, owner, start, signal)
  const stream = new FileWritable(
    writer,
    highWaterMark,
    flush ? () => syncFile(state, owner, true) : undefined,
    autoClose ? close : undefined,
  )
  stream.once(
    'close',
    onAbort(signal, () => stream.destroy(new AbortError(signal as AbortSignal))),
  )
  return stream
}

type Done = (error?: Error | null) => void

/** Takes bytes into blocks: what it has taken, it has copied or written. */
export class FileWritable extends Writable {
  readonly #writer: BlockWriter
  readonly #sync: (() => Promise<void>) | undefined
  readonly #close: (() => Promise<void>) | undefined

  constructor(
    writer: BlockWriter,
    highWaterMark: number,
    sync: (() => Promise<void>) | undefined,
    close: (() => Promise<void>) | undefined,
  ) {
    super({ highWaterMark })
    this.#writer = writer
    this.#sync = sync
    this.#close = close
  }

  /** Bytes that were taken so far. */
  get bytesWritten(): number {
    return this.#writer.bytes
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    void settle(this.#writer.write(chunk), null, done)
  }

  override _final(done: Done): void {
    void settle(this.#finish(), null, done)
  }

  override _destroy(error: Error | null, done: Done): void {
    void settle(this.#stop(), error, done)
  }

  async #finish(): Promise<void> {
    await this.#writer.end()
    await this.#sync?.()
  }

  async #stop(): Promise<void> {
    await this.#writer.stop()
    await this.#close?.()
  }
}

/** Calls back when the promise has settled: with its failure, unless there is one already. */
async function settle(promise: Promise<unknown>, error: Error | null, done: Done): Promise<void> {
  let failure = error
  try {
    await promise
  } catch (failed) {
    failure ??= failed as Error
  }
  done(failure)
}
