/**
 * Streams: tensors one after the other, within a budget of memory.
 *
 * ```text
 *   the binding reads ahead ──► a group: one piece of memory ──► its tensors, yielded one by one
 *                                  └── the loop asks for what comes after the last of them: recalled, and read into again
 * ```
 *
 * The budget is kept in the binding. A group takes its share when it begins to be read, and gives it back with its memory; a
 * tensor that is kept takes a share of its own.
 */

import { signalOf, throwIfAborted } from '../core/abort.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { bytesOf, integerOf, optionsOf, wordOf, type SignalOptions } from '../core/options.ts'
import type { RecordView } from '../core/record.ts'
import type { StreamGroup } from '../core/tensors.ts'
import { takeBuffer, type EngineBuffer } from '../memory/buffer.ts'
import { LentMemory, type Lease } from '../memory/lease.ts'
import { verifyOf } from './load.ts'
import { tensorOf } from './map.ts'
import { indicesOf, type Choice, type Selection } from './selection.ts'
import { sliceNumbers, slicesOf, type Slice, type Slices } from './slices.ts'
import type { TableState } from './table-state.ts'
import type { AnyTensor, FileTensor } from './tensor.ts'

/** Options of `stream`. */
export interface StreamOptions extends SignalOptions {
  /**
   * Bytes in memory at once: being read, yielded and kept. At least those of the largest tensor. Default 256 MiB.
   */
  memory?: number | bigint | undefined
  /** `'file'`: in the order of the bytes, which is fastest. `'given'`: in that of the selection. Default `'file'`. */
  order?: 'file' | 'given' | undefined
  /** Of these tensors of the selection, a slice is read. */
  slices?: ReadonlyMap<string, Slice> | undefined
  /** As `verify` of `load`. */
  verify?: boolean | undefined
}

const KEYS: ReadonlySet<string> = new Set(['memory', 'order', 'slices', 'verify', 'signal'])

const MEMORY_BYTES = 256 << 20

/** Streams that were collected in the middle: what they read ahead goes back. */
const abandoned = new FinalizationRegistry<number>((number) => connect().closeStream(number))

/** What a stream was asked for. */
interface Ask {
  readonly indices: Uint32Array | null
  readonly slices: Slices
  readonly memory: number
  readonly inOrder: boolean
  readonly verify: boolean | null
  readonly signal: AbortSignal | null
}

/** See `TensorTable.stream`. */
export function stream(
  state: TableState,
  selection: Selection | Choice | undefined,
  options?: StreamOptions,
): AsyncGenerator<AnyTensor, undefined> {
  const { rows } = state
  const given = optionsOf(options, KEYS)
  const indices = indicesOf(rows, selection)
  const slices = slicesOf(rows, given.slices)
  const memory = given.memory === undefined ? MEMORY_BYTES : bytesOf(given.memory, 'options.memory')
  integerOf(memory, 'options.memory', 1, Number.MAX_SAFE_INTEGER)
  const inOrder = given.order !== undefined && wordOf(given.order, 'options.order', ['file', 'given']) === 'given'
  const verify = verifyOf(given.verify)
  const signal = signalOf(given.signal)
  state.check('read')
  const streaming = new Streaming(state, { indices, slices, memory, inOrder, verify, signal })
  const iterator = streaming.tensors()
  streaming.iterator = iterator
  return iterator
}

class Streaming {
  readonly #state: TableState
  readonly #ask: Ask
  /** Its number in the binding, once it has begun. */
  #number = 0
  readonly #keeping = new Set<Promise<unknown>>()
  /** A tensor that can be kept needs the stream: while it is held, the stream is not collected. */
  iterator: object | undefined

  constructor(state: TableState, ask: Ask) {
    this.#state = state
    this.#ask = ask
  }

  async *tensors(): AsyncGenerator<AnyTensor, undefined> {
    const { indices, slices, memory, inOrder, verify, signal } = this.#ask
    const { rows, opened } = this.#state
    let group: LentMemory | undefined
    this.#state.check('read')
    this.#number = connect().openStream(opened.table, indices, sliceNumbers(slices), memory, inOrder, verify)
    abandoned.register(this.iterator as object, this.#number, this)
    try {
      for (;;) {
        const next = await this.#next()
        if (next === undefined) return undefined
        const { indices: yielded, offsets } = next
        group = new LentMemory(takeBuffer(next.memory), yielded.length, this.#copy)
        let nth = 0
        for (const info of rows.each(yielded)) {
          yield tensorOf(info, slices, yielded[nth] as number, group, offsets[nth] as number)
          throwIfAborted(signal)
          nth += 1
        }
        group.recall()
      }
    } finally {
      group?.recall()
      abandoned.unregister(this)
      connect().closeStream(this.#number)
    }
  }

  /** The next group; `undefined` at the end. */
  async #next(): Promise<StreamGroup | undefined> {
    // Their groups have a share of the budget until they are copied.
    await Promise.allSettled(this.#keeping)
    this.#state.check('read')
    const operation = new Operation(nextId(), 'load', finishGroup, null, null, undefined)
    operation.owner = this
    operation.extra.discard = ({ detail }) => {
      if (detail !== null) connect().dropMemory((detail as StreamGroup).memory)
    }
    connect().nextGroup(operation.id, this.#number)
    return this.#state.run(track<StreamGroup | undefined>(operation, this.#ask.signal))
  }

  readonly #copy = (bytes: Uint8Array, lease: Lease): Promise<EngineBuffer> => {
    const operation = new Operation(nextId(), 'copy', finishCopy, null, bytes, undefined)
    operation.owner = this
    connect().keepTensor(operation.id, this.#number, bytes, (lease as FileTensor).name)
    const copying = track<EngineBuffer>(operation, null)
    this.#keeping.add(copying)
    const forget = (): void => void this.#keeping.delete(copying)
    copying.then(forget, forget)
    return copying
  }
}

function finishGroup(_operation: Operation, { detail }: RecordView): StreamGroup | undefined {
  return (detail as StreamGroup | null) ?? undefined
}

function finishCopy(_operation: Operation, { detail }: RecordView): EngineBuffer {
  return takeBuffer(detail as number)
}
