/** Tensors one group after the other, within a budget of memory: the next ones are read while the program works. */

import { failed } from './failure.ts'
import { Job } from './job.ts'
import { fill, type Group, type Plan } from './load.ts'
import type { NodeEngine } from './engine.ts'
import type { Session } from './session.ts'

/** The memory is shared by this many groups. */
const GROUPS_MIN = 4

const GROUP_BYTES_MAX = 64 << 20

/** Bytes of a group of a stream with so much memory. */
export function groupBytesOf(memory: number): number {
  return Math.min(Math.floor(memory / GROUPS_MIN), GROUP_BYTES_MAX)
}

/** Memory that a stream has at once. */
class Budget {
  readonly limit: number
  #used = 0

  constructor(limit: number) {
    this.limit = limit
  }

  /** Takes bytes, if so many more are left. */
  take(bytes: number, rest = 0): boolean {
    if (this.#used + bytes + rest > this.limit) return false
    this.#used += bytes
    return true
  }

  giveBack(bytes: number): void {
    this.#used -= bytes
  }
}

/** A group that is being read. */
interface Reading {
  readonly group: Group
  readonly memory: Promise<Uint8Array<ArrayBuffer>>
}

export class Stream {
  readonly job: Job
  readonly #session: Session
  readonly engine: NodeEngine
  readonly #plan: () => Plan
  readonly #budget: Budget
  readonly #groupBytes: number
  readonly #reading: Reading[] = []
  #groups: Plan | undefined
  #next = 0
  #hasFailed = false

  /** @param plan - Makes the plan, at the first step. */
  constructor(session: Session, engine: NodeEngine, memory: number, plan: () => Plan) {
    this.#session = session
    this.engine = engine
    this.job = new Job(session, engine)
    this.#plan = plan
    this.#budget = new Budget(memory)
    this.#groupBytes = groupBytesOf(memory)
  }

  /** The next group, in memory; `undefined` at the end. */
  async next(): Promise<{ readonly group: Group; readonly memory: Uint8Array<ArrayBuffer> } | undefined> {
    if (this.#hasFailed) return undefined
    try {
      this.#groups ??= this.#checked(this.#plan())
      this.#readAhead(this.#groups)
      const reading = this.#reading.shift()
      if (reading !== undefined) return { group: reading.group, memory: await reading.memory }
      const group = this.#groups.groups[this.#next]
      if (group === undefined) return undefined
      throw this.#overBudget(group.bytes)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Copies bytes of a group into memory of their own. */
  keep(view: Uint8Array, tensor: string): Uint8Array<ArrayBuffer> {
    if (!this.#budget.take(view.byteLength)) throw this.#overBudget(view.byteLength, tensor)
    const own = this.#allocate(view.byteLength)
    own.set(view)
    return own
  }

  /** Ends what is being read ahead. */
  close(): void {
    this.#hasFailed = true
    this.job.cancel()
    for (const { memory } of this.#reading.splice(0))
      memory.then(
        (read) => this.#session.memory.release(read),
        () => {},
      )
  }

  #checked(plan: Plan): Plan {
    const { table, groups } = plan
    for (const { bytes, indices } of groups) {
      if (bytes <= this.#budget.limit) continue
      const largest = indices.toSorted((a, b) => table.row(b).length - table.row(a).length)[0] as number
      throw this.#overBudget(bytes, table.row(largest).name)
    }
    return plan
  }

  #readAhead(plan: Plan): void {
    for (let group = plan.groups[this.#next]; group !== undefined; group = plan.groups[this.#next]) {
      if (!this.#budget.take(group.bytes, this.#reading.length === 0 ? 0 : this.#groupBytes)) return
      const memory = this.#read(plan, group)
      // Its error comes when it is its turn.
      memory.catch(() => {})
      this.#reading.push({ group, memory })
      this.#next += 1
    }
  }

  async #read(plan: Plan, group: Group): Promise<Uint8Array<ArrayBuffer>> {
    const memory = this.#allocate(group.bytes)
    try {
      await fill(this.job, plan, group, memory)
      return memory
    } catch (error) {
      this.#session.memory.release(memory)
      throw error
    }
  }

  /** Memory that gives its bytes back to the budget when it is released. */
  #allocate(bytes: number): Uint8Array<ArrayBuffer> {
    if (bytes === 0) return new Uint8Array()
    return this.#session.memory.allocate(this.engine.number, bytes, () => this.#budget.giveBack(bytes))
  }

  #overBudget(needed: number, tensor?: string): Error {
    const budget = this.#budget.limit
    const message = `${needed} bytes are needed at once, and the budget is ${budget}`
    return failed('ERR_DEEPRING_BUDGET', '', message, { needed, budget, ...(tensor === undefined ? {} : { tensor }) })
  }
}
