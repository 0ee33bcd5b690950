/** The state of an optimizer in a swapper of deepring, within a budget: {@link Swapped}. */

import { openOptimizerSwapper, type OptimizerSwapper } from '../../lib/swap/index.ts'
import { elementsOf, GROUPS, initialParam, type Home, type Parts, type Shape } from './network.ts'

const STATES = ['exp_avg', 'exp_avg_sq'] as const

interface SwappedGroup {
  readonly name: string
  readonly numel: number
  readonly states: typeof STATES
}

export function groupName(group: number): string {
  return `hidden.${group}`
}

export class Swapped implements Home {
  readonly swapper: OptimizerSwapper<SwappedGroup>
  readonly #shape: Shape
  /** Called when the write of a group has begun. */
  behind: ((group: number) => Promise<void>) | undefined

  private constructor(swapper: OptimizerSwapper<SwappedGroup>, shape: Shape) {
    this.swapper = swapper
    this.#shape = shape
  }

  /** Opens it, all zeros if it was not closed before. */
  static async open(directory: string, shape: Shape, memory: number): Promise<Swapped> {
    const numel = elementsOf(shape)
    const groups = Array.from({ length: GROUPS }, (_, group) => ({ name: groupName(group), numel, states: STATES }))
    return new Swapped(await openOptimizerSwapper(directory, { groups, memory, create: true }), shape)
  }

  /**
   * The state of the beginning. The zeros are neither written nor read. They are not there by themselves: a process that was killed
   * after its swapper was flushed, before its first checkpoint, has left a state that is whole.
   */
  async initialize(): Promise<void> {
    for (let group = 0; group < GROUPS; group++) {
      this.swapper.reset(groupName(group), STATES)
      await this.swapper.initialize(groupName(group), { param: initialParam(this.#shape, group) })
    }
  }

  async *groups(keeps: boolean): AsyncGenerator<Parts, undefined> {
    let group = 0
    for await (const lease of this.swapper.step()) {
      const { param, states } = lease
      yield { param, ...states }
      await lease.close({ write: keeps })
      if (keeps) await this.behind?.(group)
      group += 1
    }
    return undefined
  }

  /** Changes one bit of a parameter, as a fault that the comparison has to find. */
  async flipBit(group: number, element: number): Promise<void> {
    for await (const { param } of this.swapper.step({ order: [groupName(group)] })) {
      const bits = new Uint32Array(param.buffer, param.byteOffset, param.length)
      bits[element]! ^= 1
    }
  }
}
