/**
 * Contenders over the states of an optimizer, and over experts of a model, without JavaScript in the process
 * (`native/src/swap.rs`).
 */

import type { Contender } from '../../lib/measure/rounds.ts'
import { join } from 'node:path'
import type { BenchContext } from '../bench-context.ts'

/** How many groups there are; the budget has a quarter of them. */
const GROUPS = 40
const BUDGET_SHARE = 4

/** When the predecessor waits. */
export type Order = 'waiting' | 'pipelined'

/** How experts are read. */
export type Demand = 'raw' | 'alone' | 'beside'

const ORDERS: Readonly<Record<Order, string>> = {
  waiting: 'read, wait, write, wait',
  pipelined: 'the next group read and the last one written meanwhile',
}

const DEMANDS: Readonly<Record<Demand, string>> = {
  raw: 'one read of the file each',
  alone: 'a store that does nothing else',
  beside: 'a store that follows a plan meanwhile',
}

/** Queues of the predecessor: its configuration in the examples of its documentation, and larger ones. */
const SHAPES = [1, 8].flatMap((block) => [8, 32, 128].map((depth) => ({ block: block * 2 ** 20, depth })))

/** One step of the swapper; `compute`: how long it computes on each group, in microseconds. */
export function swapping(context: BenchContext, name: string, compute: number): Contender {
  const { bytes } = context
  const memory = Math.ceil(bytes / BUDGET_SHARE)
  return {
    name,
    configuration: `${GROUPS} groups, a quarter of them in memory${compute > 0 ? ', computing as long' : ''}`,
    run: () =>
      context.scratch.inFresh((folder) =>
        context.native.measure('swap', { folder, bytes, groups: GROUPS, memory, compute }),
      ),
  }
}

/** How long a step of the swapper computes on each group, in microseconds, if it is to compute as long as it moves bytes. */
export async function asLongAsItMoves(context: BenchContext): Promise<number> {
  const { wallSeconds } = await swapping(context, 'deepring', 0).run()
  return Math.round((wallSeconds * 1e6) / GROUPS)
}

/** The same step in the predecessor's order of operations, in all configurations of its queues. */
export function predecessorSwapCandidates(
  context: BenchContext,
  name: string,
  order: Order,
  compute: number,
): Contender[] {
  const { bytes } = context
  return SHAPES.map(({ block, depth }) => ({
    name,
    configuration: `${ORDERS[order]}, ${block / 2 ** 20}M × ${depth}${compute > 0 ? ', computing as long' : ''}`,
    run: () =>
      context.scratch.inFresh((folder) => {
        const queue = { block, depth, mode: 'overlapped', submit: 'batch' }
        return context.native.measure('swap-predecessor', { folder, bytes, groups: GROUPS, ...queue, order, compute })
      }),
  }))
}

/** Makes a model of experts of 4 MiB. */
export async function preparedExperts({ scratch, native, bytes }: BenchContext): Promise<string> {
  const file = join(scratch.folder, 'experts')
  await native.run('swap-model', { file, bytes })
  return file
}

/** Experts that are asked for, one after the other; `pace`: how long the plan's follower uses each of its own, in microseconds. */
export function demanding(context: BenchContext, demand: Demand, file: string, pace: number): Contender {
  const memory = Math.ceil(context.bytes / BUDGET_SHARE)
  return {
    name: demand,
    configuration: DEMANDS[demand],
    run: async () => {
      await context.scratch.evict(file)
      return context.native.measure('swap-read', { file, memory, pace, demand })
    },
  }
}
