/**
 * What a table says of its tensors. The table itself stays in the binding: names cross in chunks, and the rest when it is
 * asked for, because a model can have 400 000 tensors.
 */

import { connect } from '../core/completions.ts'
import { DeepringError, quotedName } from '../core/errors.ts'
import type { OpenedTable, TableRow, Texts } from '../core/tensors.ts'
import type { DType } from '../memory/dtype.ts'

/** One tensor of a file. */
export interface TensorInfo {
  /** Any text. */
  readonly name: string
  /** The element type. A name that {@link DType} does not have is possible: such a tensor is bytes. */
  readonly dtype: DType | (string & {})
  /** The extents, outermost first; empty for a scalar. They count elements, also where these are packed. */
  readonly shape: readonly number[]
  /** Its length in the file, in bytes. */
  readonly byteLength: number
  /** The file that has it, as an absolute path. */
  readonly path: string
  /** Where its bytes begin in the file. */
  readonly position: number
}

/** Rows that cross at once. */
const CHUNK_ROWS = 4096

const dropped = new FinalizationRegistry<number>((table) => connect().dropTable(table))

/** The rows of a table. They outlive its files: whatever was loaded is looked up here. */
export class Rows {
  /** Its number in the binding. */
  readonly number: number
  readonly count: number
  readonly #files: readonly string[]
  readonly #dtypes: readonly string[]

  constructor({ table, count, files, dtypes }: OpenedTable) {
    this.number = table
    this.count = count
    this.#files = files
    this.#dtypes = dtypes
    dropped.register(this, table)
  }

  /** The index of a name; -1 if there is none. */
  find(name: string): number {
    // The binding would replace half a surrogate pair, and find another name.
    return /\p{Surrogate}/u.test(name) ? -1 : connect().tableFind(this.number, name)
  }

  /** As {@link Rows.find}, for a name that must be there. */
  indexOf(name: string): number {
    const index = this.find(name)
    if (index >= 0) return index
    throw new DeepringError(`There is no tensor ${quotedName(name)}`, { code: 'ERR_DEEPRING_NOT_FOUND', tensor: name })
  }

  /** The row of an index below `count`. */
  at(index: number): TensorInfo {
    const { name, dtype, shape, file, position, length } = connect().tableRow(this.number, index)
    return this.#info({ name, dtype, shape, file, position, length })
  }

  /** Names in the order of the table, or of these indices. */
  names(indices?: Uint32Array): MapIterator<string> {
    // By its prototype it is an iterator as those of maps are, with all their methods.
    return new Names(this.number, indices?.length ?? this.count, indices) as unknown as MapIterator<string>
  }

  /** All rows, in their order. */
  *all(): Generator<TensorInfo, undefined> {
    for (let from = 0; from < this.count; from += CHUNK_ROWS)
      yield* this.#chunk(from, Math.min(CHUNK_ROWS, this.count - from))
  }

  /** The rows of these indices. Those that follow each other cross together. */
  *each(indices: Uint32Array): Generator<TensorInfo, undefined> {
    for (let at = 0; at < indices.length;) {
      const from = indices[at] as number
      let count = 1
      while (count < CHUNK_ROWS && indices[at + count] === from + count) count += 1
      if (count === 1) yield this.at(from)
      else yield* this.#chunk(from, count)
      at += count
    }
  }

  *#chunk(from: number, count: number): Generator<TensorInfo, undefined> {
    const names = textsOf(connect().tableNames(this.number, from, count, null))
    const { dtypes, ranks, extents, files, positions, lengths } = connect().tableRows(this.number, from, count)
    let extent = 0
    for (let row = 0; row < count; row += 1) {
      const end = extent + (ranks[row] as number)
      yield this.#info({
        name: names[row] as string,
        dtype: dtypes[row] as number,
        shape: Array.from(extents.subarray(extent, end)),
        file: files[row] as number,
        position: positions[row] as number,
        length: lengths[row] as number,
      })
      extent = end
    }
  }

  #info({ name, dtype, shape, file, position, length }: TableRow): TensorInfo {
    return Object.freeze({
      name,
      dtype: this.#dtypes[dtype] as string,
      shape: Object.freeze(shape),
      byteLength: length,
      path: this.#files[file] as string,
      position,
    })
  }
}

/**
 * Names, fetched in chunks. By hand rather than as a generator, because a walk over a model is a walk over hundreds of
 * thousands of them.
 */
class Names {
  readonly #table: number
  readonly #count: number
  readonly #indices: Uint32Array | undefined
  /** How many were fetched. */
  #fetched = 0
  #text = ''
  #lengths: Uint32Array = new Uint32Array(0)
  /** The next of the chunk, and where it begins in the text. */
  #next = 0
  #at = 0

  constructor(table: number, count: number, indices: Uint32Array | undefined) {
    this.#table = table
    this.#count = count
    this.#indices = indices
  }

  next(): IteratorResult<string, undefined> {
    if (this.#next === this.#lengths.length && !this.#fetch()) return { done: true, value: undefined }
    const start = this.#at
    this.#at += this.#lengths[this.#next++] as number
    return { done: false, value: this.#text.slice(start, this.#at) }
  }

  /** The next chunk. False at the end. */
  #fetch(): boolean {
    const from = this.#fetched
    const some = Math.min(CHUNK_ROWS, this.#count - from)
    if (some <= 0) return false
    const indices = this.#indices?.slice(from, from + some) ?? null
    const { text, lengths } = connect().tableNames(this.#table, from, some, indices)
    this.#fetched += some
    this.#text = text
    this.#lengths = lengths
    this.#next = 0
    this.#at = 0
    return true
  }
}

const { getPrototypeOf, setPrototypeOf } = Object
setPrototypeOf(Names.prototype, getPrototypeOf(getPrototypeOf(new Map().keys())) as object)

/** Texts that crossed in one string. */
export function textsOf({ text, lengths }: Texts): string[] {
  const texts: string[] = []
  let at = 0
  for (const length of lengths) {
    texts.push(text.slice(at, at + length))
    at += length
  }
  return texts
}
