/** The state of an optimizer in memory: what the others are compared with. */

import { setImmediate } from 'node:timers/promises'
import { GROUPS, initialParam, type Home, type Parts, type Shape } from './network.ts'

export class InMemory implements Home {
  readonly parts: readonly Parts[]

  constructor(shape: Shape) {
    this.parts = Array.from({ length: GROUPS }, (_, group) => {
      const param = initialParam(shape, group)
      return { param, exp_avg: new Float32Array(param.length), exp_avg_sq: new Float32Array(param.length) }
    })
  }

  async *groups(): AsyncGenerator<Parts, undefined> {
    for (const parts of this.parts) {
      yield parts
      await setImmediate() // A bar is drawn.
    }
    return undefined
  }
}
