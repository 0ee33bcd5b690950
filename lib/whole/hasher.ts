/**
 * Workers that hash: {@link takeHasher}.
 *
 * ```text
 *   this thread reads into shared memory ──place, length──► worker: hash.update ──done──► the place is free
 * ```
 *
 * A worker serves one file at a time. Idle ones are kept for a second, because one takes tens of milliseconds to start, and do not keep
 * the process alive.
 */

import { clearTimeout, setTimeout } from 'node:timers'
import { Worker } from 'node:worker_threads'
import { DeepringError } from '../core/errors.ts'

/** How long an idle worker is kept. */
const IDLE_MS = 1000

/** As text, so that bundlers need not know of another file. */
const PROGRAM = `
const { createHash } = require('node:crypto')
const { parentPort, workerData } = require('node:worker_threads')
const memory = new Uint8Array(workerData)
let hash
parentPort.on('message', ({ algorithm, offset, length }) => {
  if (algorithm !== undefined) hash = createHash(algorithm)
  else if (length > 0) parentPort.postMessage(void hash.update(memory.subarray(offset, offset + length)))
  else parentPort.postMessage(hash.digest('hex'))
})
`

interface Waiting {
  readonly resolve: (answer: unknown) => void
  readonly reject: (error: unknown) => void
}

const idle: Hasher[] = []

/** A worker that is free, or a new one. It must be given back. */
export function takeHasher(bytes: number): Hasher {
  const kept = idle.pop()
  kept?.wake()
  return kept ?? new Hasher(bytes)
}

/** One worker. */
export class Hasher {
  /** The memory that it hashes. It starts on a page. */
  readonly memory: Uint8Array<SharedArrayBuffer>
  readonly #worker: Worker
  /** In the order of the answers. */
  readonly #waiting: Waiting[] = []
  #timer: NodeJS.Timeout | undefined
  #failure: unknown

  constructor(bytes: number) {
    // Growable memory is on pages of its own, so that the device writes to it without a copy.
    const shared: SharedArrayBuffer = Reflect.construct(SharedArrayBuffer, [bytes, { maxByteLength: bytes }])
    this.memory = new Uint8Array(shared, 0, bytes)
    this.#worker = new Worker(PROGRAM, { eval: true, execArgv: [], workerData: shared })
    this.#worker.on('message', (answer) => this.#waiting.shift()?.resolve(answer))
    this.#worker.on('error', (error) => this.#fail(error))
    this.#worker.on('exit', () =>
      this.#fail(new DeepringError('The worker that hashes has ended', { code: 'ERR_DEEPRING_CANCELED' })),
    )
  }

  /** Begins another hash. */
  begin(algorithm: string): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
    this.#worker.postMessage({ algorithm })
  }

  /** Hashes bytes of the memory; the promise settles when they are not needed any more. */
  update(offset: number, length: number): Promise<void> {
    return this.#ask(offset, length) as Promise<void>
  }

  /** The hash, in hexadecimal. */
  end(): Promise<string> {
    return this.#ask(0, 0) as Promise<string>
  }

  wake(): void {
    clearTimeout(this.#timer)
    this.#worker.ref()
  }

  /** It is not needed for the moment. */
  giveBack(): void {
    if (this.#failure !== undefined) return
    this.#worker.unref()
    this.#timer = setTimeout(() => {
      idle.splice(idle.indexOf(this), 1)
      void this.#worker.terminate()
    }, IDLE_MS).unref()
    idle.push(this)
  }

  #ask(offset: number, length: number): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
      this.#worker.postMessage({ offset, length })
    })
  }

  #fail(error: unknown): void {
    this.#failure ??= error
    const at = idle.indexOf(this)
    if (at !== -1) idle.splice(at, 1)
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure)
  }
}
