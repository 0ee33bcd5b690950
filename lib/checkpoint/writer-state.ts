/**
 * A writer as its calls see it. Nothing is visible before its last step:
 *
 * ```text
 *   begin or join ──► put, putAll, reference ... ──► prepare ──► publish
 *                                └─────────────────────┴── abort: whatever was written is removed
 * ```
 */

import { AbortError } from '../core/abort.ts'
import type { BegunCheckpoint } from '../core/checkpoints.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, running, waitedFor, type EngineState } from '../core/engine-state.ts'
import { closed } from '../core/errors.ts'
import type { RecordView } from '../core/record.ts'
import { whatIsGone, type Given } from '../safetensors/save.ts'
import { nothing } from '../safetensors/table-state.ts'
import { finishCommitted, type Generation } from './generation.ts'

/** Writers that were collected: what they have written is removed. */
const leaked = new FinalizationRegistry<number>((writer) => connect().dropCheckpointWriter(writer))

/** See the module. */
export class WriterState {
  readonly engine: EngineState
  /** The store, for errors. */
  readonly directory: string
  readonly generation: number
  readonly token: string
  /** Its number among the writers. */
  readonly writer: number
  /** JSON; null: that was not said. */
  meta: string | null = null
  /** Its number in the binding; 0 once it ends. */
  #number: number
  readonly #running = new Set<Promise<unknown>>()
  /** Why a tensor can be wrong, or be missing. */
  #spoiled: unknown
  #ending: Promise<unknown> | undefined

  constructor(engine: EngineState, directory: string, writer: number, begun: BegunCheckpoint) {
    this.engine = engine
    this.directory = directory
    this.writer = writer
    this.generation = begun.generation
    this.token = begun.token
    this.#number = begun.writer
    leaked.register(this, this.#number, this)
  }

  get ended(): boolean {
    return this.#number === 0
  }

  /** Refuses calls of a writer that has ended. */
  check(syscall: string): void {
    if (this.ended) throw closed('writer', syscall, this.directory)
    checkOpen(this.engine, syscall)
  }

  /** Puts tensors, in a request that `stage` makes. Returns its id, and the promise of its end. */
  put(
    given: Given,
    signal: AbortSignal | null,
    stage: (id: number, writer: number) => void,
  ): { readonly id: number; readonly putting: Promise<void> } {
    const operation = new Operation(nextId(), 'write', nothing, null, null, undefined)
    operation.extra.holds = given.views
    operation.owner = this
    stage(operation.id, this.#number)
    return { id: operation.id, putting: this.#run(this.#put(track<void>(operation, signal), given)) }
  }

  async #put(writing: Promise<void>, given: Given): Promise<void> {
    let failed: unknown
    try {
      await writing
    } catch (error) {
      failed = error
    }
    const gone = whatIsGone(given)
    if (gone !== undefined || failed instanceof AbortError) this.#spoiled ??= gone ?? failed
    if (gone !== undefined || failed !== undefined) throw gone ?? failed
  }

  /** Another request of the writer. */
  run<T>(
    stage: (id: number, writer: number) => void,
    finish: (operation: Operation, record: RecordView) => T,
    signal: AbortSignal | null,
  ): Promise<T> {
    const operation = new Operation(nextId(), 'checkpoint', finish, null, null, undefined)
    operation.owner = this
    stage(operation.id, this.#number)
    return this.#run(track<T>(operation, signal))
  }

  /** Ends the writer: writes all that is needed, and makes nothing visible. `begun` gets the id of the request. */
  prepare(signal: AbortSignal | null, begun: (id: number) => void = nothing): Promise<number> {
    return this.#end((number) => this.#prepare(number, signal, begun))
  }

  async #prepare(number: number, signal: AbortSignal | null, begun: (id: number) => void): Promise<number> {
    const spoiled = this.#spoiled ?? (signal?.aborted === true ? new AbortError(signal) : undefined)
    if (spoiled !== undefined) {
      await this.#abort(number)
      throw spoiled
    }
    const operation = new Operation(nextId(), 'commit', finishNumber, null, null, undefined)
    operation.owner = this
    operation.extra.discard = ({ detail }) => runInBackground((id) => connect().abandonCheckpoint(id, detail as number))
    connect().prepareCheckpoint(operation.id, number, this.meta)
    begun(operation.id)
    return track<number>(operation, signal)
  }

  /** Prepares, and publishes. */
  commit(signal: AbortSignal | null): Promise<Generation> {
    const committing = waitedFor(
      this.engine,
      this.prepare(signal).then((prepared) => this.publish(prepared)),
    )
    this.#ending = committing
    return committing
  }

  /** Makes what was prepared visible. */
  publish(prepared: number): Promise<Generation> {
    return this.#last(finishCommitted, (id) => connect().publishCheckpoint(id, prepared))
  }

  /** Removes what was prepared. */
  abandon(prepared: number): Promise<void> {
    // The caller gets the error that made this necessary.
    return this.#last(nothing, (id) => connect().abandonCheckpoint(id, prepared)).catch(nothing)
  }

  /** Removes what was written. If the writer ends already, waits for that: whether it succeeds is reported elsewhere. */
  async abort(): Promise<void> {
    if (this.ended) await this.#ending?.catch(nothing)
    else await this.#end((number) => this.#abort(number))
  }

  #abort(number: number): Promise<void> {
    return this.#last(nothing, (id) => connect().abortCheckpoint(id, number))
  }

  /** Ends the writer, once all calls have ended. */
  #end<T>(end: (number: number) => Promise<T>): Promise<T> {
    const number = this.#number
    this.#number = 0
    leaked.unregister(this)
    const earlier = [...this.#running]
    const ending = waitedFor(
      this.engine,
      Promise.allSettled(earlier).then(() => end(number)),
    )
    this.#ending = ending
    return ending
  }

  #last<T>(finish: (operation: Operation, record: RecordView) => T, stage: (id: number) => void): Promise<T> {
    const operation = new Operation(nextId(), 'commit', finish, null, null, undefined)
    operation.owner = this
    stage(operation.id)
    return waitedFor(this.engine, track<T>(operation, null))
  }

  #run<T>(request: Promise<T>): Promise<T> {
    return waitedFor(this.engine, running(this.#running, request))
  }
}

function finishNumber(_operation: Operation, { detail }: RecordView): number {
  return detail as number
}
