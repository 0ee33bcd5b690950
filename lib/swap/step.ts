/**
 * A step of an optimizer: groups one after the other, read ahead and written behind.
 *
 * ```text
 *   beginStep ──► nextGroupLease ──► the body of the loop ──► close, which writes ──► nextGroupLease ...
 *                                           └── throws or leaves: the lease ends without a write, and the step with it
 * ```
 */

import { throwIfAborted } from '../core/abort.ts'
import { connect } from '../core/completions.ts'
import { fromFailure } from '../core/errors.ts'
import type { Operation } from '../core/operation.ts'
import type { RecordView } from '../core/record.ts'
import type { GroupLeased } from '../core/swaps.ts'
import { bytesOfElements } from '../memory/dtype.ts'
import { GroupLease } from './group.ts'
import { LeasedMemory } from './leased-memory.ts'
import type { Group, OptimizerGroup } from './optimizer-options.ts'
import type { SwapState } from './swap-state.ts'

/** A step whose arguments have been checked. */
export interface Ask {
  readonly state: SwapState
  /** The swapper, which is not collected before. */
  readonly owner: object
  readonly groups: readonly Group[]
  /** Null: all, in their order. */
  readonly order: string[] | null
  readonly signal: AbortSignal | null
}

/** Steps that were collected in the middle: what they hold is free again. */
const abandoned = new FinalizationRegistry<number>((number) => connect().endStep(number))

/** See the module. */
export function step<G extends OptimizerGroup>(ask: Ask): AsyncGenerator<GroupLease<G>, undefined> {
  const stepping = new Stepping<G>(ask)
  const iterator = stepping.groups()
  stepping.iterator = iterator
  return iterator
}

interface Leased<G extends OptimizerGroup> {
  readonly group: GroupLease<G>
  readonly memory: LeasedMemory
}

class Stepping<G extends OptimizerGroup> {
  readonly #ask: Ask
  /** Its number in the binding, once it has begun. */
  #number = 0
  iterator: object | undefined

  constructor(ask: Ask) {
    this.#ask = ask
  }

  async *groups(): AsyncGenerator<GroupLease<G>, undefined> {
    const { state, order, signal } = this.#ask
    state.check('step')
    throwIfAborted(signal)
    const begun = connect().beginStep(state.number, order)
    if (typeof begun !== 'number') throw fromFailure(begun)
    this.#number = begun
    abandoned.register(this.iterator as object, begun, this)
    let memory: LeasedMemory | undefined
    try {
      for (;;) {
        const next = await this.#next()
        if (next === undefined) return undefined
        memory = next.memory
        yield next.group
        await next.group.close()
        await memory.release()
        throwIfAborted(signal)
      }
    } finally {
      await memory?.release()
      abandoned.unregister(this)
      connect().endStep(begun)
    }
  }

  /** The next group; `undefined` at the end. */
  #next(): Promise<Leased<G> | undefined> {
    const { state, owner, groups, signal } = this.#ask
    const finish = (_operation: Operation, { detail }: RecordView): Leased<G> | undefined => {
      if (detail === null || detail === undefined) return undefined
      const { lease, group: name } = detail as GroupLeased
      const group = groups.find((each) => each.name === name) as Group
      const memory = new LeasedMemory(lease, 'group', name, lengthsOf(group), owner)
      return { group: new GroupLease<G>(group, memory), memory }
    }
    const stage = (id: number): void => connect().nextGroupLease(id, this.#number)
    return state.ask(this, { call: 'step', stage, finish, signal, discard })
  }
}

function discard({ detail }: RecordView): void {
  if (detail !== null && detail !== undefined) connect().dropLease((detail as GroupLeased).lease)
}

/** Bytes of the parts of a group, in their order. */
function lengthsOf({ numel, dtype, states, gradient }: Group): number[] {
  const bytes = bytesOfElements(dtype, numel)
  const lengths = [bytes, ...states.map(() => bytes)]
  return gradient === undefined ? lengths : [...lengths, bytesOfElements(gradient, numel)]
}
