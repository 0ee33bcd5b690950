/** Work of many requests, with one record: {@link Job}. */

import type { NodeEngine } from './engine.ts'
import { failureOf } from './failure.ts'
import type { NodeFile } from './files.ts'
import type { Request, Running } from './request.ts'
import type { Cancelable, Session } from './session.ts'
import { CANCELED, type Steps } from './steps.ts'

export class Job implements Cancelable {
  readonly engine: NodeEngine
  readonly #session: Session
  readonly #requests = new Set<Running>()
  #isCanceled = false
  /** Called when it is canceled. */
  onCancel: () => void = () => {}
  /** Bytes that are done, and those of all. */
  done = 0
  total = 0

  constructor(session: Session, engine: NodeEngine) {
    this.#session = session
    this.engine = engine
  }

  /** Carries out a request of the job. Rejects with what its steps have thrown, or with {@link CANCELED}. */
  run<T>(syscall: string, steps: Steps<T>, file?: NodeFile): Promise<T> {
    return this.#isCanceled ? Promise.reject(CANCELED) : this.#launch(syscall, steps, file, false)
  }

  /** The same, whether the job is canceled or not: what cleans up behind it. */
  runAnyway<T>(syscall: string, steps: Steps<T>): Promise<T> {
    return this.#launch(syscall, steps, undefined, true)
  }

  #launch<T>(syscall: string, steps: Steps<T>, file: NodeFile | undefined, isCertain: boolean): Promise<T> {
    return new Promise((resolve, reject) => {
      const request: Request<T> = this.#session.launch<T>({
        engine: this.engine,
        file,
        isCertain,
        syscall,
        steps: keepingErrors(steps, reject),
        settle: (outcome, self) => {
          this.#requests.delete(self)
          if (outcome.kind === 'done') resolve(outcome.value)
          // After the steps' own error, this has no effect.
          else reject(CANCELED)
        },
      })
      if (!request.isSettled) this.#requests.add(request)
    })
  }

  cancel(): void {
    this.#isCanceled = true
    for (const request of this.#requests) request.cancel()
    this.onCancel()
  }

  /** Whether it was canceled. */
  get isCanceled(): boolean {
    return this.#isCanceled
  }
}

/** Passes on what steps throw, before it becomes a failure without a file. */
function* keepingErrors<T>(steps: Steps<T>, reject: (error: unknown) => void): Steps<T> {
  try {
    return yield* steps
  } catch (error) {
    reject(error)
    throw error
  }
}

/** Begins a job whose outcome is the record `id`, with the detail that `body` makes. */
export function startJob(
  session: Session,
  id: number,
  engine: NodeEngine,
  syscall: string,
  body: (job: Job) => Promise<unknown>,
): void {
  const job = new Job(session, engine)
  session.running.set(id, job)
  void report(session, id, syscall, body(job))
}

/** Makes the record of a job. */
async function report(
  { running, delivery }: Session,
  id: number,
  syscall: string,
  ending: Promise<unknown>,
): Promise<void> {
  try {
    const detail = await ending
    running.delete(id)
    delivery.succeed(id, {}, detail ?? null)
  } catch (error) {
    running.delete(id)
    if (error === CANCELED) delivery.cancel(id)
    else delivery.fail(id, failureOf(error, syscall))
  }
}

/** Progress of the job of a record. */
export function progressOf(session: Session, id: number, bytes: Float64Array): void {
  const job = session.running.get(id)
  if (!(job instanceof Job)) return
  bytes[0] = job.done
  bytes[1] = job.total
}
