/** A store as its calls see it. */

import { throwIfAborted } from '../core/abort.ts'
import type { BegunCheckpoint } from '../core/checkpoints.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, running, waitedFor, type Closable, type EngineState } from '../core/engine-state.ts'
import { closed } from '../core/errors.ts'
import type { RecordView } from '../core/record.ts'
import { nothing } from '../safetensors/table-state.ts'
import { Failures } from './moment.ts'
import { WriterState } from './writer-state.ts'

/** Lives until the last save has settled. */
export class StoreState implements Closable {
  readonly engine: EngineState
  readonly directory: string
  /** Of saves. */
  readonly failures: Failures = new Failures()
  /** Its number in the binding. */
  readonly #number: number
  /** Saves, and whatever else a close waits for. */
  readonly #running = new Set<Promise<unknown>>()
  /** The end of the last begin. */
  #begun: Promise<unknown> = Promise.resolve()
  #closing: Promise<void> | undefined

  constructor(engine: EngineState, directory: string, number: number) {
    this.engine = engine
    this.directory = directory
    this.#number = number
    engine.files.add(this)
  }

  get closed(): boolean {
    return this.#closing !== undefined
  }

  /** Refuses work for a store that is closed or closing. */
  check(syscall: string): void {
    if (this.closed) throw closed('store', syscall, this.directory)
    checkOpen(this.engine, syscall)
  }

  /** A request of the store. */
  ask<T>(
    owner: object,
    stage: (id: number, store: number) => void,
    finish: (operation: Operation, record: RecordView) => T,
    signal: AbortSignal | null,
    discard?: (record: RecordView) => void,
  ): Promise<T> {
    const operation = new Operation(nextId(), 'checkpoint', finish, null, null, undefined)
    operation.owner = owner
    if (discard !== undefined) operation.extra.discard = discard
    stage(operation.id, this.#number)
    return this.run(track<T>(operation, signal))
  }

  /**
   * Begins or joins a generation. One after the other, so that the numbers have the order of the calls. It takes no time, so
   * an abort comes after it: one in the middle would leave a directory.
   */
  begin(
    owner: object,
    writer: number,
    stage: (id: number, store: number) => void,
    signal: AbortSignal | null,
  ): Promise<WriterState> {
    const finish = (_operation: Operation, { detail }: RecordView): WriterState =>
      new WriterState(this.engine, this.directory, writer, detail as BegunCheckpoint)
    const begin = async (): Promise<WriterState> => {
      throwIfAborted(signal)
      const begun = await this.ask(owner, stage, finish, null)
      if (signal?.aborted === true) await begun.abort()
      throwIfAborted(signal)
      return begun
    }
    const begun = this.#begun.then(begin)
    // Without its result, which could not be collected.
    this.#begun = begun.then(nothing, nothing)
    return this.run(begun)
  }

  /** A close waits for this, and so does one of the engine. */
  run<T>(operation: Promise<T>): Promise<T> {
    return waitedFor(this.engine, running(this.#running, operation))
  }

  /** Closes the store once, however often it is called, after what runs. Fails if nothing has seen a failure of a save. */
  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
    const failed = this.failures.take()
    if (failed !== undefined) throw failed.error
  }

  async #close(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
    this.engine.files.delete(this)
    const operation = new Operation(nextId(), 'close', nothing, this, null, this.directory)
    connect().closeStore(operation.id, this.#number)
    await track(operation, null)
  }

  /** The store was collected: nothing runs. */
  drop(): void {
    if (this.closed) return
    const failed = this.failures.take()
    if (failed !== undefined) {
      process.emitWarning(
        `A store of checkpoints was collected before a failure of save() was looked at: ${String(failed.error)}`,
        { type: 'DeepringWarning', code: 'DEEPRING_FAILURE_UNREPORTED' },
      )
    }
    this.engine.files.delete(this)
    runInBackground((id) => connect().closeStore(id, this.#number))
  }
}
