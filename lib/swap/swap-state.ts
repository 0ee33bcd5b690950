/** A swap store or an optimizer swapper as its calls see it: {@link SwapState}. */

import { connect, nextId, track } from '../core/completions.ts'
import { checkOpen, running, waitedFor, type Closable, type EngineState } from '../core/engine-state.ts'
import { closed } from '../core/errors.ts'
import { Operation } from '../core/operation.ts'
import type { RecordView } from '../core/record.ts'
import { nothing } from '../safetensors/table-state.ts'

/** How the binding closes either. */
const BINDING = {
  store: {
    close: (id: number, number: number): void => connect().closeSwap(id, number),
    drop: (number: number): void => connect().dropSwap(number),
  },
  swapper: {
    close: (id: number, number: number): void => connect().closeSwapper(id, number),
    drop: (number: number): void => connect().dropSwapper(number),
  },
}

/** A request of a store or swapper, which has this number. */
export interface Asked<T> {
  /** In the word that its error has as `syscall`. */
  readonly call: string
  readonly stage: (id: number, number: number) => void
  readonly finish: (operation: Operation, record: RecordView) => T
  readonly signal: AbortSignal | null
  /** Memory of the caller. */
  readonly holds?: readonly Uint8Array[]
  readonly discard?: (record: RecordView) => void
}

/** Lives until the last call has settled. */
export class SwapState implements Closable {
  readonly #kind: keyof typeof BINDING
  readonly engine: EngineState
  /** The directory, or a file of the table that it is over: for errors. */
  readonly path: string | undefined
  /** Its number in the binding. */
  readonly number: number
  readonly #running = new Set<Promise<unknown>>()
  #closing: Promise<void> | undefined

  constructor(kind: keyof typeof BINDING, engine: EngineState, path: string | undefined, number: number) {
    this.#kind = kind
    this.engine = engine
    this.path = path
    this.number = number
    engine.files.add(this)
  }

  get closed(): boolean {
    return this.#closing !== undefined
  }

  /** Refuses calls once it is closed or closing. */
  check(syscall: string): void {
    if (this.closed) throw closed(this.#kind, syscall, this.path)
    checkOpen(this.engine, syscall)
  }

  ask<T>(owner: object, { call, stage, finish, signal, holds, discard }: Asked<T>): Promise<T> {
    const operation = new Operation(nextId(), call, finish, null, null, undefined)
    operation.owner = owner
    if (holds !== undefined) operation.extra.holds = holds
    if (discard !== undefined) operation.extra.discard = discard
    stage(operation.id, this.number)
    return this.run(track<T>(operation, signal))
  }

  /** Flushes and closes, after the calls. If that fails, it is still open. */
  close(): Promise<void> {
    this.#closing ??= this.#close().catch((error: unknown) => {
      this.#closing = undefined
      throw error
    })
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#running)
    const operation = new Operation(nextId(), 'close', nothing, this, null, this.path)
    BINDING[this.#kind].close(operation.id, this.number)
    await track(operation, null)
    this.engine.files.delete(this)
    BINDING[this.#kind].drop(this.number)
  }

  /** It was collected. */
  leaked(what: string): void {
    if (this.closed) return
    process.emitWarning(
      `Closing ${what} on garbage collection, '${this.path ?? ''}'. Close it with close() or \`await using\`.`,
      { type: 'DeepringWarning', code: 'DEEPRING_FILE_LEAKED' },
    )
    this.close().catch(nothing)
  }

  /** The close waits for this, and so does one of the engine. */
  run<T>(call: Promise<T>): Promise<T> {
    return waitedFor(this.engine, running(this.#running, call))
  }
}
