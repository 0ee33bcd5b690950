/** A group of an optimizer in memory: {@link GroupLease}. */

import { inspect, type InspectOptions } from 'node:util'
import { invalidType, invalidValue, quotedName, released } from '../core/errors.ts'
import { optionsOf } from '../core/options.ts'
import { elementsIn, type DType, type DTypeViews } from '../memory/dtype.ts'
import type { LeasedMemory } from './leased-memory.ts'
import {
  GRADIENT,
  PARAM,
  type DTypeOf,
  type GradientOf,
  type Group,
  type OptimizerGroup,
  type StateOf,
} from './optimizer-options.ts'

/** Options of {@link GroupLease.close}. */
export interface CloseGroupOptions {
  /**
   * What is written behind the program. True: parameters and states. False: nothing; the group and its gradient are as before. An
   * array: parts by their names, `param`, those of states, or `gradient`, which is kept then; changes of the others are lost.
   * Default true.
   */
  write?: boolean | readonly string[] | undefined
}

const CLOSE_KEYS: ReadonlySet<string> = new Set(['write'])

/**
 * A group of a step, in memory until it is closed. The loop over a step closes it with a write when it goes on. Afterwards, its
 * parts throw `ERR_DEEPRING_RELEASED`, and views that were taken out of it have length 0.
 *
 * @example
 * ```ts
 * import { openOptimizerSwapper } from 'deepring/swap'
 *
 * const swapper = await openOptimizerSwapper('optimizer', {
 *   groups: [{ name: 'layer.0', numel: 4, states: ['momentum'], gradient: 'F32' }],
 *   memory: 1 << 20,
 *   create: true,
 * })
 * await swapper.putGradient('layer.0', 0, new Float32Array(4).fill(2))
 * for await (const group of swapper.step()) {
 *   for (const [i, g] of group.gradient.entries()) group.param[i]! -= 0.5 * g
 *   group.states.momentum.fill(7)
 *   await group.close({ write: ['param'] }) // what was done to the momentum is forgotten
 * }
 * for await (const { param, states } of swapper.step()) console.log(param[0], states.momentum[0]) // -1 0
 * await swapper.close()
 * ```
 */
export class GroupLease<G extends OptimizerGroup = OptimizerGroup> {
  readonly #group: Group
  readonly #memory: LeasedMemory
  readonly #views: (DTypeViews[DType] | undefined)[] = []
  #states: object | undefined

  /** @internal */
  constructor(group: Group, memory: LeasedMemory) {
    this.#group = group
    this.#memory = memory
  }

  /** The name of the group. */
  get name(): string {
    return this.#group.name
  }

  /** How many parameters it has. */
  get numel(): number {
    return this.#group.numel
  }

  /** The type of parameters and states. */
  get dtype(): DTypeOf<G> {
    return this.#group.dtype as DTypeOf<G>
  }

  /**
   * The parameters, `numel` of them, to be read and changed.
   *
   * @throws `ERR_DEEPRING_RELEASED` once the lease has ended.
   */
  get param(): DTypeViews[DTypeOf<G>] {
    return this.#part(0, this.dtype)
  }

  /**
   * The states by their names, each as long as the parameters, to be read and changed.
   *
   * @throws `ERR_DEEPRING_RELEASED` once the lease has ended.
   */
  get states(): Readonly<Record<StateOf<G>, DTypeViews[DTypeOf<G>]>> {
    if (this.released) throw this.#releasedError()
    if (this.#states === undefined) {
      // Without a prototype, whose names a state can have.
      const states = Object.create(null) as Record<string, DTypeViews[DType]>
      for (const [nth, name] of this.#group.states.entries()) states[name] = this.#part(nth + 1, this.dtype)
      this.#states = Object.freeze(states)
    }
    return this.#states as Readonly<Record<StateOf<G>, DTypeViews[DTypeOf<G>]>>
  }

  /**
   * The gradient, zero where nothing was put; `undefined` if the group has none.
   *
   * @throws `ERR_DEEPRING_RELEASED` once the lease has ended.
   */
  get gradient(): GradientOf<G> {
    const { gradient, states } = this.#group
    if (this.released) throw this.#releasedError()
    return (gradient === undefined ? undefined : this.#part(states.length + 1, gradient)) as GradientOf<G>
  }

  /** Whether the lease has ended. */
  get released(): boolean {
    return this.#memory.ended
  }

  /**
   * Ends the lease, once requests on its memory have settled, and begins to write: that is not waited for. With any write, the
   * gradient has been used, and the next one can come.
   *
   * @throws `ERR_DEEPRING_INVALID_ARG_VALUE` for a part that the group does not have; `ERR_DEEPRING_DETACHED` if its memory was
   * transferred: then nothing is written. A write that fails is reported by the next call that needs the group.
   */
  async close(options?: CloseGroupOptions): Promise<void> {
    const { write = true } = optionsOf(options, CLOSE_KEYS)
    const parts = typeof write === 'boolean' ? write : this.#partsOf(write)
    if (this.released) {
      if (options?.write !== undefined && write !== false) throw this.#releasedError()
      return
    }
    await this.#memory.end(parts)
  }

  /** Ends the lease. Nothing is written. */
  [Symbol.dispose](): void {
    if (!this.released) this.#memory.drop()
  }

  #part<D extends DType>(nth: number, dtype: D): DTypeViews[D] {
    if (this.released) throw this.#releasedError()
    const { buffer, byteOffset, byteLength } = this.#memory.part(nth)
    this.#views[nth] ??= elementsIn(dtype, buffer, byteOffset, byteLength)
    return this.#views[nth] as DTypeViews[D]
  }

  #partsOf(names: unknown): string[] {
    if (!Array.isArray(names)) throw invalidType('options.write', 'of type boolean or an array of names', names)
    const { states, gradient } = this.#group
    const known = [PARAM, ...states, ...(gradient === undefined ? [] : [GRADIENT])]
    for (const name of names as unknown[])
      if (!known.includes(name as string))
        throw invalidValue('options.write', `The parts of the group are ${known.join(', ')}.`, name)
    return names as string[]
  }

  #releasedError(): Error {
    return released(`the group ${quotedName(this.name)}`)
  }
}

// Not the elements: a look at them brings their memory to JavaScript.
Object.defineProperty(GroupLease.prototype, inspect.custom, {
  value(this: GroupLease, _depth: number, options: InspectOptions): string {
    if (this === GroupLease.prototype) return 'GroupLease'
    const { name, numel, dtype, released: isReleased } = this
    return `GroupLease ${inspect({ name, numel, dtype, released: isReleased }, options)}`
  },
})
