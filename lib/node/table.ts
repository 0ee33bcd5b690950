/** A table of tensors and its open files: what was read of headers, looked up by the facade. */

import type { OpenedTable, Selected, TableRow, TableRows, Texts } from '../core/tensors.ts'
import { NAMES } from './dtype.ts'
import type { NodeEngine } from './engine.ts'
import type { NodeFile } from './files.ts'
import type { Row } from './header.ts'

/** Checksums that a file states: of its tensors, and of its header. */
export interface Stated {
  /** Where the digits of the header's checksum are. */
  readonly place: number
  readonly expected: number
  /** Bytes of the header, with its length in front. */
  readonly bytes: number
}

/** What an open has found. */
export interface Found {
  readonly engine: NodeEngine
  readonly rows: readonly Row[]
  readonly paths: readonly string[]
  readonly files: readonly NodeFile[]
  readonly metadata: ReadonlyMap<string, string>
  readonly trailing: number
  readonly unindexed: readonly string[]
  readonly missing: readonly string[]
  /** Of each row, the checksum that its file states. */
  readonly sums: readonly (number | undefined)[]
  /** Of each file. */
  readonly headers: readonly (Stated | undefined)[]
}

export class Table {
  readonly found: Found
  readonly #indices: ReadonlyMap<string, number>
  readonly #dtypes: readonly string[]
  readonly #numbers: ReadonlyMap<string, number>
  isOpen = true

  constructor(found: Found) {
    this.found = found
    this.#indices = new Map(found.rows.map(({ name }, index) => [name, index]))
    this.#dtypes = [...new Set([...NAMES, ...found.rows.map(({ dtype }) => dtype)])]
    this.#numbers = new Map(this.#dtypes.map((name, number) => [name, number]))
  }

  row(index: number): Row {
    return this.found.rows[index] as Row
  }

  opened(table: number): OpenedTable {
    const { rows, paths, trailing } = this.found
    let [bytes, largest] = [0, 0]
    for (const { length } of rows) {
      bytes += length
      largest = Math.max(largest, length)
    }
    const files = [...paths]
    return { table, count: rows.length, bytes, largest, files, direct: false, dtypes: [...this.#dtypes], trailing }
  }

  names(from: number, count: number, indices: Uint32Array | null): Texts {
    const { rows } = this.found
    return textsOf(
      indices === null ? rows.slice(from, from + count).map(nameOf) : Array.from(indices, (at) => this.row(at).name),
    )
  }

  tableRow(index: number): TableRow {
    const { name, dtype, shape, file, position, length } = this.row(index)
    return { name, dtype: this.#numbers.get(dtype) ?? 0, shape: [...shape], file, position, length }
  }

  tableRows(from: number, count: number): TableRows {
    const rows = this.found.rows.slice(from, from + count)
    return {
      dtypes: Uint32Array.from(rows, ({ dtype }) => this.#numbers.get(dtype) ?? 0),
      ranks: Uint32Array.from(rows, ({ shape }) => shape.length),
      extents: Float64Array.from(rows.flatMap(({ shape }) => [...shape])),
      files: Uint32Array.from(rows, ({ file }) => file),
      positions: Float64Array.from(rows, ({ position }) => position),
      lengths: Float64Array.from(rows, ({ length }) => length),
    }
  }

  find(name: string): number {
    return this.#indices.get(name) ?? -1
  }

  /** Each once. */
  select(indices: Uint32Array): Selected {
    const each = Uint32Array.from(new Set(indices))
    return { indices: each, bytes: each.reduce((sum, index) => sum + this.row(index).length, 0) }
  }
}

function nameOf({ name }: Row): string {
  return name
}

export function textsOf(texts: readonly string[]): Texts {
  return { text: texts.join(''), lengths: Uint32Array.from(texts, ({ length }) => length) }
}
