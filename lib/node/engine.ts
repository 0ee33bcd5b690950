/** An engine over node:fs: its calls, its limits, and its counters. */

import type { BigIntStats } from 'node:fs'
import { release } from 'node:os'
import type { EngineConfig, HandleLimits } from '../core/native.ts'
import { PRIORITY } from '../core/record.ts'
import { VERSION } from '../core/version.ts'
import { Latency } from './latency.ts'
import { Gate, Pool } from './pool.ts'
import type { Running } from './request.ts'
import { call, type Steps } from './steps.ts'
import { BLOCK_BYTES, type Moved } from './transfer.ts'

/** The threads that libuv has for files, unless `UV_THREADPOOL_SIZE` says otherwise. */
const THREADS = 4

const QUEUED_MAX = 2 ** 20

/** Files that requests by path have open at once. */
const PATHS_MAX = 16

/** What `info` says of profiles. */
const NO_PROFILE = { used: false, reason: 'node:fs has no window to search for' }

/** See `HandleLimits` of native.ts. */
export interface NodeHandle {
  readonly blockBytes: number
  readonly priority: number
  readonly gate: Gate
}

export class NodeEngine {
  readonly number: number
  readonly pool: Pool
  readonly blockBytes: number
  /** Limits as they were asked for. The pool keeps to the lowest. */
  readonly threads: number
  readonly queueDepth: number
  readonly inFlightBytes: number
  readonly maxQueued: number
  /** For requests by path. */
  readonly paths: Gate = new Gate(PATHS_MAX)
  /** Those that have not ended. */
  readonly requests: Set<Running> = new Set()
  readonly counters = {
    submitted: 0,
    completed: 0,
    failed: 0,
    canceled: 0,
    resumed: 0,
    retried: 0,
    readBytes: 0,
    writtenBytes: 0,
    queued: 0,
  }
  readonly #latency = new Latency()
  readonly #classes = { latency: new Latency(), throughput: new Latency(), background: new Latency() }
  /** Called when the last request has ended. */
  #idle: (() => void) | undefined

  constructor(number: number, config: EngineConfig) {
    this.number = number
    const { threads = THREADS, queueDepth = threads, inFlightBytes = Infinity } = config
    this.blockBytes = config.blockSize ?? Math.min(BLOCK_BYTES, inFlightBytes)
    this.threads = threads
    this.queueDepth = queueDepth
    this.inFlightBytes = config.inFlightBytes ?? threads * this.blockBytes
    this.pool = new Pool(Math.max(1, Math.min(threads, queueDepth, Math.floor(inFlightBytes / this.blockBytes))))
    this.maxQueued = config.maxQueued ?? QUEUED_MAX
  }

  /** A request begins. */
  add(request: Running): void {
    this.requests.add(request)
  }

  /** A request has ended. */
  remove(request: Running): void {
    this.requests.delete(request)
    if (this.requests.size === 0) this.#idle?.()
  }

  /** Cancels all requests. Settles when they have ended. */
  close(): Promise<void> {
    const closing = new Promise<void>((resolve) => {
      this.#idle = resolve
    })
    for (const request of this.requests) request.cancel()
    if (this.requests.size === 0) this.#idle?.()
    return closing
  }

  /** A transfer has succeeded. */
  count(isWrite: boolean, { bytes, resumed }: Moved, retries: number, priority: number, ms: number): void {
    const { counters } = this
    counters.completed += 1
    counters.resumed += resumed
    counters.retried += retries
    if (isWrite) counters.writtenBytes += bytes
    else counters.readBytes += bytes
    this.#latency.add(ms * 1000)
    const { latency, throughput, background } = this.#classes
    const one = priority === PRIORITY.latency ? latency : priority === PRIORITY.background ? background : throughput
    one.add(ms * 1000)
  }

  handle({ queueDepth, blockSize, priority }: HandleLimits): NodeHandle {
    const gate = new Gate(queueDepth === 0 ? Infinity : queueDepth)
    return { blockBytes: blockSize === 0 ? this.blockBytes : blockSize, priority, gate }
  }

  /** The public `Info`. */
  info(reason: string, path: object | undefined): object {
    const { queueDepth, blockBytes: blockSize, inFlightBytes, maxQueued, threads } = this
    const limits = { queueDepth, blockSize, inFlightBytes, maxQueued, threads }
    return {
      version: VERSION,
      backend: 'node',
      reason,
      kernel: kernelRelease(),
      flags: [],
      ringEntries: 0,
      memlockBytes: -1,
      hugePages: 'unknown',
      window: 'fixed',
      profile: NO_PROFILE,
      ...limits,
      ...(path === undefined ? {} : { path }),
    }
  }

  /** Its part of the public `Info`, about a path. */
  *pathInfo(path: string | Uint8Array, named: string): Steps<object> {
    const { dev } = yield* call<BigIntStats>('stat', path, { bigint: true })
    const device = String(dev)
    return {
      path: named,
      device,
      deviceRequests: this.pool.threads,
      queueDepth: this.queueDepth,
      window: this.#windowOf(device),
      fileSystem: 'unknown',
      direct: false,
      directReason: 'node:fs has no direct I/O',
      offsetAlignment: 1,
      memoryAlignment: 1,
      locks: false,
      locksReason: 'node:fs has no locks',
      profile: NO_PROFILE,
    }
  }

  #windowOf(device: string): object {
    const bytes = this.pool.threads * this.blockBytes
    const size = { bytes, sharedBytes: bytes, blocks: this.pool.threads }
    return { device, read: size, write: size }
  }

  /** The public `Stats`. `memory` has its part of engine memory. */
  stats(memory: { readonly buffers: number; readonly bufferBytes: number }): object {
    const { calls, bytes, callsMax, bytesMax } = this.pool.running
    const { latency, throughput, background } = this.#classes
    return {
      ...this.counters,
      ...memory,
      bouncedBytes: 0,
      punted: 0,
      downgraded: 0,
      leaked: 0,
      leakedBytes: 0,
      panics: 0,
      inFlight: calls,
      inFlightMax: callsMax,
      inFlightBytes: bytes,
      inFlightBytesMax: bytesMax,
      pooledBytes: 0,
      latency: this.#latency.summary,
      classes: {
        latency: latency.histogram,
        throughput: throughput.histogram,
        background: background.histogram,
      },
      windows: [],
    }
  }
}

/** Unknown where the runtime does not say (Deno without --allow-sys). */
function kernelRelease(): string {
  try {
    return release()
  } catch {
    return 'unknown'
  }
}
