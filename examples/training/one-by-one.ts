/**
 * The state of an optimizer in files, in the order of operations of DeepSpeed's swapper on its `aio_handle`: read a group, wait,
 * compute, write, wait, with one file for each part. Nothing happens at the same time.
 */

import { join } from 'node:path'
import { allocateTensor } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'
import { elementsOf, GROUPS, initialParam, PARTS, type Home, type Parts, type Shape } from './network.ts'

export class OneByOne implements Home {
  readonly #directory: string
  readonly #shape: Shape
  readonly #handle = new AioHandle({ blockSize: 1 << 20, queueDepth: 32, overlapEvents: true })
  readonly #buffers
  read = 0
  written = 0

  constructor(directory: string, shape: Shape) {
    this.#directory = directory
    this.#shape = shape
    const example = allocateTensor('F32', [0])
    this.#buffers = PARTS.map((part) => ({
      part,
      tensor: this.#handle.newCpuLockedTensor(elementsOf(shape), example),
    }))
  }

  /** Bytes of memory for groups. */
  get memory(): number {
    return this.#buffers.reduce((sum, { tensor }) => sum + tensor.byteLength, 0)
  }

  async initialize(): Promise<void> {
    const [param, ...states] = this.#buffers
    for (const { tensor } of states) tensor.data.fill(0)
    for (let group = 0; group < GROUPS; group++) {
      param!.tensor.data.set(initialParam(this.#shape, group))
      await this.#write(group)
    }
    this.written = 0
  }

  async *groups(keeps: boolean): AsyncGenerator<Parts, undefined> {
    const [param, first, second] = this.#buffers.map(({ tensor }) => tensor.data)
    for (let group = 0; group < GROUPS; group++) {
      for (const { part, tensor } of this.#buffers) this.#handle.asyncPread(tensor, this.#path(group, part))
      await this.#handle.wait()
      this.read += this.memory
      yield { param: param!, exp_avg: first!, exp_avg_sq: second! }
      if (keeps) await this.#write(group)
    }
    return undefined
  }

  async #write(group: number): Promise<void> {
    for (const { part, tensor } of this.#buffers) this.#handle.asyncPwrite(tensor, this.#path(group, part))
    await this.#handle.wait()
    this.written += this.memory
  }

  #path(group: number, part: string): string {
    return join(this.#directory, `${group}.${part}.tensor.swp`)
  }
}
