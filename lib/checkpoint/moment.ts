/** Promises that know whether anything has looked at them, and the failures that nothing has looked at. */

import { AbortError } from '../core/abort.ts'

let lookedAt: (moment: Moment<unknown>) => boolean

/**
 * A promise of which it is known whether anything has asked for its outcome. That it was not asked for is no
 * `unhandledRejection`. What `then` returns is an ordinary promise.
 */
export class Moment<T> extends Promise<T> {
  #looked = false

  constructor(executor: (resolve: (value: T) => void, reject: (reason: unknown) => void) => void) {
    super(executor)
    // Not by this class's own `then`, which is a look.
    super.then(undefined, ignore)
  }

  static {
    lookedAt = (moment) => moment.#looked
  }

  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  /** `await`, `catch`, `finally` and `Promise.all` call it, too. */
  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
  override then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#looked = true
    return super.then(onFulfilled, onRejected)
  }
}

/** A failure, and the promises that have it. */
export interface Failed {
  readonly error: unknown
  readonly moments: Moment<unknown>[]
  /** Another call has failed with it. */
  reported: boolean
}

/** Failures that nothing has looked at. */
export class Failures {
  #all: Failed[] = []

  /** These promises have rejected with an error. */
  add(error: unknown, moments: readonly Moment<unknown>[]): void {
    // That was asked for.
    if (error instanceof AbortError) return
    const known = this.#unseen().find((failed) => failed.error === error)
    if (known === undefined) this.#all.push({ error, moments: [...moments], reported: false })
    else known.moments.push(...moments)
  }

  /** The first failure. It is seen from now on, and so are those after it. */
  take(): Failed | undefined {
    const [first] = this.#unseen()
    this.#all = []
    return first
  }

  /** The first failure that was not reported, for promises that need not be looked at. */
  report(): Failed | undefined {
    const first = this.#unseen().find(({ reported }) => !reported)
    if (first !== undefined) first.reported = true
    return first
  }

  #unseen(): readonly Failed[] {
    this.#all = this.#all.filter(({ moments }) => !moments.some((moment) => lookedAt(moment)))
    return this.#all
  }
}

function ignore(): void {}
