/**
 * The calls of an engine: so many at once as it has threads, those of the class `latency` first.
 *
 * libuv carries out calls of files on four threads of the process (`UV_THREADPOOL_SIZE`), and names and compression wait for
 * the same ones. Calls that wait here can still be canceled, and pass each other.
 */

import { performance } from 'node:perf_hooks'
import { PRIORITY } from '../core/record.ts'
import { begin, block, type Call } from './steps.ts'

/** A call that waits, or runs. */
export interface Queued {
  readonly call: Call
  readonly bytes: number
  /** Gets the answer, or the error. */
  readonly done: (error: unknown, answer: unknown) => void
  state: 'waiting' | 'running' | 'taken'
  /** When it was made. */
  startedMs: number
}

/** Calls of one class, in their order. */
class Line {
  #calls: Queued[] = []
  #head = 0

  push(queued: Queued): void {
    this.#calls.push(queued)
  }

  /** The next that is still waiting. */
  shift(): Queued | undefined {
    while (this.#head < this.#calls.length) {
      const next = this.#calls[this.#head++] as Queued
      if (next.state === 'waiting') return next
    }
    this.#calls = []
    this.#head = 0
    return undefined
  }
}

/** One of this many calls goes to the class `background`, and one of {@link FAIR_TURN} to `throughput`, whatever else waits. */
const BACKGROUND_TURN = 50
const FAIR_TURN = 10

const TURNS = [PRIORITY.latency, PRIORITY.throughput, PRIORITY.background] as const

export class Pool {
  /** Calls at once. */
  readonly threads: number
  readonly #lines = {
    [PRIORITY.latency]: new Line(),
    [PRIORITY.throughput]: new Line(),
    [PRIORITY.background]: new Line(),
  }
  /** Calls that run, and their bytes; and the most of both. */
  readonly running = { calls: 0, bytes: 0, callsMax: 0, bytesMax: 0 }
  #turn = 0
  #isDue = false

  constructor(threads: number) {
    this.threads = threads
  }

  /** Makes a call when it is its turn: not before this tick ends, so that it can still be made at once. */
  submit(call: Call, priority: number, bytes: number, done: Queued['done']): Queued {
    const queued: Queued = { call, bytes, done, state: 'waiting', startedMs: 0 }
    this.#lines[priority as (typeof TURNS)[number]].push(queued)
    if (!this.#isDue) {
      this.#isDue = true
      queueMicrotask(() => {
        this.#isDue = false
        this.#pump()
      })
    }
    return queued
  }

  /** Takes a call out of its line. False if it runs already. */
  take(queued: Queued): boolean {
    if (queued.state !== 'waiting') return false
    queued.state = 'taken'
    return true
  }

  /** Makes a call that was taken out now, on this thread. */
  runNow(queued: Queued): unknown {
    queued.startedMs = performance.now()
    return block(queued.call)
  }

  #pump(): void {
    const { running } = this
    while (running.calls < this.threads) {
      const next = this.#next()
      if (next === undefined) return
      next.state = 'running'
      next.startedMs = performance.now()
      running.calls += 1
      running.bytes += next.bytes
      running.callsMax = Math.max(running.callsMax, running.calls)
      running.bytesMax = Math.max(running.bytesMax, running.bytes)
      begin(next.call, (error, answer) => {
        running.calls -= 1
        running.bytes -= next.bytes
        next.done(error, answer)
        this.#pump()
      })
    }
  }

  #next(): Queued | undefined {
    this.#turn = (this.#turn + 1) % BACKGROUND_TURN
    const first =
      this.#turn === 0 ? PRIORITY.background : this.#turn % FAIR_TURN === 0 ? PRIORITY.throughput : PRIORITY.latency
    const turned = this.#lines[first].shift()
    if (turned !== undefined) return turned
    for (const other of TURNS) {
      const next = other === first ? undefined : this.#lines[other].shift()
      if (next !== undefined) return next
    }
    return undefined
  }
}

/** Lets so many requests in at once: for descriptors, and for the depth of a handle. */
export class Gate {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(places: number) {
    this.#free = places
  }

  /** A place, now or later. Each is left once. */
  enter(): Promise<void> | undefined {
    if (this.#free > 0) {
      this.#free -= 1
      return undefined
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  leave(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free += 1
    else next()
  }
}
