/** When processes are killed. */

/** What a process is in the middle of. */
export const PHASES = ['compute', 'write-behind', 'snapshot', 'commit'] as const
export type Phase = (typeof PHASES)[number]

export interface Moment {
  readonly phase: Phase
  /** The step that is computed, or after which the checkpoint is made. */
  readonly step: number
  /** How much of the phase has passed, from 0 to 1. */
  readonly part: number
}

/** How long phases take, in milliseconds. */
export interface Durations {
  /** The write of one group. */
  readonly writeMs: number
  readonly snapshotMs: number
  readonly commitMs: number
}

/** A plan for moments: from the latest checkpoint on, it gives the next one. */
export class Moments {
  readonly #planned: readonly {
    readonly phase: Phase
    readonly interval: number
    readonly at: number
    readonly part: number
  }[]
  readonly #every: number
  #next = 0

  /**
   * As many moments of each phase, in a mixed order, spread over the training. A commit can be visible when it is killed, and then
   * the training has come an interval further: there are that many intervals more than the plan needs.
   */
  constructor(kills: number, steps: number, every: number, random: () => number) {
    const phases = PHASES.flatMap((phase) => Array.from({ length: kills }, (_, nth) => ({ phase, nth })))
    for (let last = phases.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1))
      ;[phases[last], phases[other]] = [phases[other]!, phases[last]!]
    }
    const spare = steps / every - kills - 1
    if (!Number.isInteger(spare) || spare < 0)
      throw new RangeError(
        `${kills} moments of each phase need at least ${every * (kills + 1)} steps, and a multiple of ${every}`,
      )
    this.#every = every
    this.#planned = phases.map(({ phase, nth }, place) => ({
      phase,
      interval: Math.floor((place * spare) / phases.length),
      at: Math.floor(random() * every) + 1,
      // One in each of as many equal parts of the phase.
      part: (nth + random()) / kills,
    }))
  }

  /** How many there are. */
  get count(): number {
    return this.#planned.length
  }

  /** The next moment of a process that begins after so many steps; `undefined` if there is none left. */
  next(steps: number): Moment | undefined {
    const planned = this.#planned[this.#next]
    if (planned === undefined) return undefined
    this.#next += 1
    const { phase, interval, at, part } = planned
    const before = Math.max(interval * this.#every, steps)
    return { phase, step: before + (phase === 'compute' || phase === 'write-behind' ? at : this.#every), part }
  }
}
