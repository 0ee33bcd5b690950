/** Opening: safetensors files, and tables of rows that another parser has found. */

import { Buffer } from 'node:buffer'
import { signalOf } from '../core/abort.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, waitedFor } from '../core/engine-state.ts'
import { invalidType, invalidValue } from '../core/errors.ts'
import { booleanOf, bytesOf, integerOf, optionsOf, type SignalOptions } from '../core/options.ts'
import { pathOf, type CheckedPath, type FilePath } from '../core/path.ts'
import type { RecordView } from '../core/record.ts'
import type { OpenedTable } from '../core/tensors.ts'
import { directOf, engineOf, engineStateOf, type Engine } from '../engine/engine.ts'
import { columnsOf } from './columns.ts'
import { SafetensorsFile } from './file.ts'
import { TableState } from './table-state.ts'
import { TensorTable } from './table.ts'

/** Options of {@link tensorTable}. */
export interface TableOptions extends SignalOptions {
  /** Whether to bypass the page cache, as for `open`. Default `'prefer'`. */
  direct?: 'require' | 'prefer' | 'never' | 'auto' | undefined
  /** The engine that reads. Default: that of the process. */
  engine?: Engine | undefined
}

/** Options of {@link openSafetensors}. */
export interface OpenSafetensorsOptions extends TableOptions {
  /**
   * True: bytes behind the last tensor, and tensors that an index names and their file does not have, are errors. False:
   * `trailing` and `missing` have them. Default true.
   */
  strict?: boolean | undefined
  /** The longest header in bytes. A header takes about its own size once more in memory. Default 100 000 000. */
  maxHeaderBytes?: number | bigint | undefined
}

/** Where a tensor is: a row of a table. */
export interface TensorRow {
  /** A name that no other row has. */
  name: string
  /** The element type, by its name in safetensors; of any other name, the tensor is bytes. */
  dtype: string
  /** The extents, outermost first. */
  shape: readonly number[]
  /** The file. */
  path: FilePath
  /** Where its bytes begin. */
  position: number | bigint
  /** How many there are: as many as shape and type say. */
  length: number | bigint
}

const TABLE_KEYS: ReadonlySet<string> = new Set(['direct', 'engine', 'signal'])
const OPEN_KEYS: ReadonlySet<string> = new Set([...TABLE_KEYS, 'strict', 'maxHeaderBytes'])

const HEADER_BYTES = 100_000_000
const HEADER_BYTES_MAX = 2 ** 32 - 1

/** Paths as their bytes, one behind the other. */
function packed(paths: readonly CheckedPath[]): { readonly bytes: Uint8Array; readonly lengths: Uint32Array } {
  return {
    bytes: Buffer.concat(paths.map(({ bytes }) => bytes)),
    lengths: Uint32Array.from(paths, ({ bytes }) => bytes.length),
  }
}

/**
 * Opens a model in safetensors files. Reads the headers, checks them against the files, and nothing else.
 *
 * @param path - A file, a `*.index.json`, or a directory: with `model.safetensors.index.json`, else `model.safetensors`, else
 * the only `*.safetensors`. Or several files as one model.
 * @throws `ERR_DEEPRING_FORMAT` for whatever is wrong with a header or an index: `reason`, `path` and `tensor` say what.
 * `ENOENT`, `EACCES`, ...; `tensor` is one that needs the file.
 *
 * @example
 * ```ts
 * import { openSafetensors, saveSafetensors } from 'deepring/safetensors'
 *
 * const bias = { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }
 * await saveSafetensors('model.safetensors', { bias })
 * const model = await openSafetensors('model.safetensors')
 * const tensors = await model.load()
 * console.log(tensors.get('bias')?.data) // Float32Array(2) [ 1, 2 ]
 * tensors[Symbol.dispose]()
 * await model.close()
 * ```
 */
export async function openSafetensors(
  path: FilePath | readonly FilePath[],
  options?: OpenSafetensorsOptions,
): Promise<SafetensorsFile> {
  const several = Array.isArray(path)
  const names = several ? path.map((each, nth) => pathOf(each, `path[${nth}]`)) : [pathOf(path)]
  if (names.length === 0) throw invalidValue('path', 'It names no file.', path)
  const given = optionsOf(options, OPEN_KEYS)
  const direct = directOf(given.direct)
  const strict = booleanOf(given.strict, 'options.strict', true)
  const { maxHeaderBytes } = given
  const headerBytes = maxHeaderBytes === undefined ? HEADER_BYTES : bytesOf(maxHeaderBytes, 'options.maxHeaderBytes')
  integerOf(headerBytes, 'options.maxHeaderBytes', 1, HEADER_BYTES_MAX)
  const engine = engineOf(given.engine)
  const { bytes, lengths } = packed(names)
  return opening(engine, given.signal, (id, number) => {
    connect().openSafetensors(id, number, bytes, lengths, !several, direct, strict, headerBytes)
  }).then((state) => new SafetensorsFile(state))
}

/**
 * Makes a table of tensors in files of any format, whose places another parser has found. It loads, streams, slices and looks
 * up like a safetensors file. The files are opened and their sizes checked; nothing is read. Rows can share bytes.
 *
 * @throws `ERR_DEEPRING_FORMAT`: a name is there twice, a size is not that of shape and type, or a file is too short.
 * `ENOENT`, `EACCES`, ...
 *
 * @example
 * ```ts
 * import { writeFileSync } from 'node:fs'
 * import { tensorTable } from 'deepring/safetensors'
 *
 * writeFileSync('weights.dat', new Float32Array([0, 1, 2, 3]))
 * const row = { name: 'tail', dtype: 'F32', shape: [2], path: 'weights.dat', position: 8, length: 8 }
 * const table = await tensorTable([row])
 * const tail = await table.tensor('tail')
 * console.log(tail.data) // Float32Array(2) [ 2, 3 ]
 * await table.close()
 * ```
 */
export async function tensorTable(rows: readonly TensorRow[], options?: TableOptions): Promise<TensorTable> {
  if (!Array.isArray(rows)) throw invalidType('rows', 'an array', rows)
  const list = rows as readonly TensorRow[]
  const given = optionsOf(options, TABLE_KEYS)
  const direct = directOf(given.direct)
  const engine = engineOf(given.engine)
  const columns = columnsOf(list, 'rows')
  const paths = new Map<string, { readonly path: CheckedPath; readonly number: number }>()
  const pathOfRow = new Uint32Array(list.length)
  const places = new Float64Array(list.length * 2)
  for (const [nth, row] of list.entries()) {
    const path = pathOf(row.path, `rows[${nth}].path`)
    const key = path.bytes.toString('latin1')
    const known = paths.get(key) ?? { path, number: paths.size }
    paths.set(key, known)
    pathOfRow[nth] = known.number
    places[nth] = bytesOf(row.position, `rows[${nth}].position`)
    places[list.length + nth] = bytesOf(row.length, `rows[${nth}].length`)
  }
  const { bytes, lengths } = packed(Array.from(paths.values(), ({ path }) => path))
  const { names, nameBytes, dtypes, dtypeOf, ranks, extents } = columns
  const state = await opening(engine, given.signal, (id, number) => {
    connect().openRows(
      id,
      number,
      names,
      nameBytes,
      dtypes,
      dtypeOf,
      ranks,
      extents,
      bytes,
      lengths,
      pathOfRow,
      places,
      direct,
    )
  })
  return new TensorTable(state)
}

/** Starts an open, which `stage` stages. */
async function opening(
  engine: Engine,
  signal: AbortSignal | undefined,
  stage: (id: number, engine: number) => void,
): Promise<TableState> {
  const watched = signalOf(signal)
  const state = engineStateOf(engine)
  checkOpen(state, 'open')
  const finish = (_operation: Operation, { detail }: RecordView): TableState =>
    new TableState(state, detail as OpenedTable)
  const operation = new Operation(nextId(), 'open', finish, null, null, undefined)
  operation.owner = engine
  operation.extra.discard = ({ detail }) => closeUnseen(detail as OpenedTable)
  stage(operation.id, state.number)
  return waitedFor(state, track(operation, watched))
}

/** Closes what was opened for a promise that was rejected before. */
export function closeUnseen({ table }: OpenedTable): void {
  runInBackground((id) => connect().closeTable(id, table))
  connect().dropTable(table)
}
