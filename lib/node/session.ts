/** What one JavaScript environment has: engines, files, and requests by their numbers. */

import type { EngineConfig } from '../core/native.ts'
import { PRIORITY } from '../core/record.ts'
import { Delivery, type RecordFields } from './delivery.ts'
import { NodeEngine, type NodeHandle } from './engine.ts'
import type { FailureFields } from './failure.ts'
import { fileOf, type Descriptor, type NodeFile } from './files.ts'
import { Memory } from './memory.ts'
import { Request, type Outcome } from './request.ts'
import type { Steps } from './steps.ts'

/** Something that can be canceled by the number of its record. */
export interface Cancelable {
  cancel(): void
  /** Carries it out at once, if it can. */
  finishNow?(): void
}

/** A request that is about to begin. */
export interface Launch<T> {
  readonly engine: NodeEngine
  /** Of `PRIORITY`. */
  readonly priority?: number
  /** Kept open until it has ended. */
  readonly file?: NodeFile | undefined
  readonly syscall: string
  readonly fields?: FailureFields
  /** Canceling it has no effect. */
  readonly isCertain?: boolean
  readonly steps: Steps<T>
  readonly settle: (outcome: Outcome<T>, request: Request<T>) => void
}

export class Session {
  readonly delivery: Delivery = new Delivery()
  readonly memory: Memory = new Memory()
  readonly engines: Map<number, NodeEngine> = new Map()
  readonly files: Map<number, NodeFile> = new Map()
  readonly handles: Map<number, NodeHandle> = new Map()
  /** By the numbers of their records. */
  readonly running: Map<number, Cancelable> = new Map()
  /** Transfers that are canceled together. */
  readonly cancellations: Map<number, Set<Cancelable>> = new Map()
  #last = 0

  /** A number for something that has one. They are never used again. */
  number(): number {
    this.#last += 1
    return this.#last
  }

  engine(number: number): NodeEngine {
    return known(this.engines, number, 'engine')
  }

  file(number: number): NodeFile {
    return known(this.files, number, 'file')
  }

  createEngine(config: EngineConfig): NodeEngine {
    const engine = new NodeEngine(this.number(), config)
    this.engines.set(engine.number, engine)
    return engine
  }

  /** A file that has no number for the facade. */
  ownFile(engine: NodeEngine, descriptor: Descriptor): NodeFile {
    return fileOf(this.number(), engine, descriptor, PRIORITY.none)
  }

  addFile(engine: NodeEngine, descriptor: Descriptor, priority: number): NodeFile {
    const file = fileOf(this.number(), engine, descriptor, priority)
    this.files.set(file.number, file)
    return file
  }

  /** Begins a request. */
  launch<T>({
    engine,
    priority = 0,
    file,
    syscall,
    fields = {},
    isCertain = false,
    steps,
    settle,
  }: Launch<T>): Request<T> {
    if (file !== undefined) file.uses += 1
    const request: Request<T> = new Request({
      pool: engine.pool,
      priority,
      syscall,
      fields,
      isCertain,
      steps,
      settle: (outcome, self) => {
        engine.remove(self)
        settle(outcome, self)
        if (file === undefined) return
        file.uses -= 1
        if (file.uses === 0) file.unused?.()
      },
    })
    engine.add(request)
    request.start()
    return request
  }

  /** Lets others cancel a transfer, until what it returns is called. */
  cancelTogether(request: Cancelable, cancellation: number): (() => void) | undefined {
    if (cancellation === 0) return undefined
    const others = this.cancellations.get(cancellation) ?? new Set()
    this.cancellations.set(cancellation, others.add(request))
    return () => {
      others.delete(request)
      if (others.size === 0) this.cancellations.delete(cancellation)
    }
  }

  /** Begins a request whose outcome is the record `id`, with what `land` makes of its result. */
  record<T>(
    id: number,
    launch: Omit<Launch<T>, 'settle'>,
    land: (value: T, request: Request<T>) => readonly [RecordFields, unknown?] = () => [{}],
  ): void {
    const request = this.launch<T>({
      ...launch,
      settle: (outcome, self) => {
        this.running.delete(id)
        if (outcome.kind === 'done') this.delivery.succeed(id, ...land(outcome.value, self))
        else if (outcome.kind === 'failed') this.delivery.fail(id, outcome.failure)
        else this.delivery.cancel(id)
      },
    })
    if (!request.isSettled) this.running.set(id, request)
  }
}

/** Finds something by its number. */
export function known<T>(table: ReadonlyMap<number, T>, number: number, what: string): T {
  const found = table.get(number)
  if (found === undefined) throw new RangeError(`${what} ${number} does not exist in this environment`)
  return found
}
