/**
 * Saving a model, in one file or in several.
 *
 * The binding writes everything under a name that nobody looks for. Then the memory is looked at: if a view was detached
 * meanwhile, what was written can be wrong, and is removed. Only then does it take the place of what was there.
 */

import { signalOf, throwIfAborted } from '../core/abort.ts'
import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, waitedFor, type EngineState } from '../core/engine-state.ts'
import { detached, invalidType, invalidValue, outOfRange, quotedName } from '../core/errors.ts'
import { bytesOf, optionsOf } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import { onProgressOf, reporting, type OnProgress, type ProgressOptions } from '../core/progress.ts'
import type { RecordView } from '../core/record.ts'
import type { Saved, SaveRequest, WrittenSave } from '../core/tensors.ts'
import { engineOf, engineStateOf } from '../engine/engine.ts'
import { dtypeOf, type DType } from '../memory/dtype.ts'
import { viewOf, type TensorLike } from '../memory/view.ts'
import { checkTensorName, type Declaration } from './columns.ts'
import { requestOf, WRITER_KEYS, type SaveReceipt, type WriterOptions } from './save-options.ts'
import { nothing } from './table-state.ts'

/** Options of {@link saveSafetensors}. */
export interface SaveOptions extends WriterOptions, ProgressOptions {
  /**
   * With this, `path` is a directory that exists, and gets files of at most so many bytes of tensors each, unless one is larger,
   * and an index, under the names that other libraries look for. A model that the directory has is replaced as a whole.
   */
  shardBytes?: number | bigint | undefined
}

const KEYS: ReadonlySet<string> = new Set([...WRITER_KEYS, 'shardBytes', 'onProgress'])

/** Tensors by name, of any library: an object, a `Map`, or any iterable of pairs. */
export type NamedTensors = Readonly<Record<string, TensorLike>> | Iterable<readonly [string, TensorLike]>

/** Tensors as they are given. */
export interface Given {
  readonly declarations: Declaration[]
  readonly views: Uint8Array[]
  /** Of the views, at the time of the call: a view that is detached has none. */
  readonly lengths: number[]
}

/**
 * Saves tensors as a safetensors file. What was there is replaced as a whole, or stays as it is: a crash at any moment leaves one
 * of the two. A symbolic link is replaced, not followed.
 *
 * The memory of the tensors belongs to the engine until the promise settles. An abort counts until everything is written.
 *
 * @param path - The file; with `shardBytes`, a directory.
 * @param tensors - Tensors of any library by name: an object, a `Map`, or any iterable of pairs. Element types can have the
 * names of safetensors or of onnxruntime.
 * @throws `ERR_DEEPRING_INVALID_ARG_VALUE`: a name is there twice, or a tensor cannot be written. `ERR_DEEPRING_DETACHED`: memory
 * was transferred or disposed before the end. `ENOSPC`, `EIO`, ... After each, the old file is as it was.
 * `ERR_DEEPRING_UNCERTAIN`: the new file is in place, but flushing its directory failed, so that a power cut can bring back the
 * old one.
 *
 * @example
 * ```ts
 * import { saveSafetensors } from 'deepring/safetensors'
 *
 * const scale = { dtype: 'F32', shape: [2], data: new Float32Array([1, 2]) }
 * const { bytes, files } = await saveSafetensors('model.safetensors', { scale }, { checksum: 'crc32c' })
 * console.log(bytes, files) // 4104 1
 * ```
 */
export async function saveSafetensors(
  path: FilePath,
  tensors: NamedTensors,
  options?: SaveOptions,
): Promise<SaveReceipt> {
  const name = pathOf(path)
  const given = optionsOf(options, KEYS)
  const list = tensorsOf(tensors)
  const request = requestOf(list.declarations, 'tensors', given, shardBytesOf(given.shardBytes))
  const onProgress = onProgressOf(given.onProgress)
  const signal = signalOf(given.signal)
  const owner = engineOf(given.engine)
  const engine = engineStateOf(owner)
  checkOpen(engine, 'write')
  return waitedFor(engine, write({ engine, owner, path: name.bytes, list, request, onProgress, signal }))
}

/** A save whose arguments have been checked. */
interface Save {
  readonly list: Given
  readonly engine: EngineState
  readonly owner: object
  readonly path: Uint8Array
  readonly request: SaveRequest
  readonly onProgress: OnProgress | undefined
  readonly signal: AbortSignal | null
}

async function write({ engine, owner, path, list, request, onProgress, signal }: Save): Promise<SaveReceipt> {
  const operation = new Operation(nextId(), 'save', finishWritten, null, null, undefined)
  operation.extra.holds = list.views
  operation.owner = owner
  operation.extra.discard = ({ detail }) =>
    runInBackground((id) => connect().abandonSave(id, (detail as WrittenSave).written))
  connect().saveTensors(operation.id, engine.number, path, request, list.views)
  const writing = track<WrittenSave>(operation, signal)
  let written: WrittenSave
  try {
    written = await reporting(
      () => operation.id,
      onProgress,
      writing,
      ({ bytes }) => bytes,
      abandon,
    )
  } catch (error) {
    throw whatIsGone(list) ?? error
  }
  const gone = whatIsGone(list)
  if (gone !== undefined || signal?.aborted === true) {
    await abandon(written)
    throwIfAborted(gone === undefined ? signal : null)
    throw gone
  }
  const committing = new Operation(nextId(), 'commit', finishSaved, null, null, undefined)
  committing.owner = owner
  connect().commitSave(committing.id, written.written)
  return track(committing, null)
}

/** What a save did, from its record. */
export function finishSaved(_operation: Operation, { detail }: RecordView): SaveReceipt {
  const { bytes, bounced, direct, files } = detail as Saved
  return Object.freeze({ bytes, bounced, direct, files })
}

function finishWritten(_operation: Operation, { detail }: RecordView): WrittenSave {
  return detail as WrittenSave
}

function abandon({ written }: WrittenSave): Promise<void> {
  const operation = new Operation(nextId(), 'abandon', nothing, null, null, undefined)
  connect().abandonSave(operation.id, written)
  // The caller gets the error that made this necessary.
  return track<void>(operation, null).catch(nothing)
}

function shardBytesOf(value: unknown): number {
  if (value === undefined) return 0
  const bytes = bytesOf(value, 'options.shardBytes')
  if (bytes < 1) throw outOfRange('options.shardBytes', `>= 1 && <= ${Number.MAX_SAFE_INTEGER}`, value)
  return bytes
}

/** What is to be saved, checked. */
export function tensorsOf(tensors: unknown): Given {
  if (typeof tensors !== 'object' || tensors === null)
    throw invalidType('tensors', 'an object with tensors, or an iterable of names and tensors', tensors)
  const pairs: Iterable<unknown> = Symbol.iterator in tensors ? (tensors as Iterable<unknown>) : Object.entries(tensors)
  const given: Given = { declarations: [], views: [], lengths: [] }
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2) throw invalidType('tensors', 'an iterable of [name, tensor]', pair)
    const [name, tensor] = pair as [unknown, unknown]
    given.declarations.push(declarationOf(checkTensorName(name, 'tensors'), tensor))
    const view = viewOf(tensor as TensorLike, undefined, undefined)
    given.views.push(view)
    given.lengths.push(view.byteLength)
  }
  return given
}

/** A tensor of any library, as it is declared. */
export function declarationOf(
  name: string,
  tensor: unknown,
  argument = `tensors.get(${quotedName(name)})`,
): Declaration & { dtype: DType } {
  if (typeof tensor !== 'object' || tensor === null)
    throw invalidType(argument, 'a tensor { dtype, shape, data }', tensor)
  const { dtype, type, shape, dims } = tensor as Partial<Record<'dtype' | 'type' | 'shape' | 'dims', unknown>>
  const named = dtype ?? type
  if (typeof named !== 'string')
    throw invalidType(`${argument}.dtype`, 'of type string (or "type" in its place)', named)
  const known = dtypeOf(named)
  if (known === undefined) throw invalidValue(`${argument}.dtype`, 'It is not an element type of safetensors.', named)
  return { name, dtype: known, shape: (shape ?? dims) as readonly number[] }
}

/** What a call comes to that has this memory meanwhile: an error if some of it was detached. */
export async function lent<T>(given: Given, call: Promise<T>, syscall: 'read' | 'write' = 'write'): Promise<T> {
  const outcome = await call.catch((error: unknown) => {
    throw whatIsGone(given, syscall) ?? error
  })
  const gone = whatIsGone(given, syscall)
  if (gone !== undefined) throw gone
  return outcome
}

/** The error for the first view that was detached. */
export function whatIsGone(
  { declarations, views, lengths }: Given,
  syscall: 'read' | 'write' = 'write',
): Error | undefined {
  const nth = views.findIndex(({ byteLength }, index) => byteLength !== lengths[index])
  const tensor = declarations[nth]?.name
  if (tensor === undefined) return undefined
  const message = `The memory of the tensor ${quotedName(tensor)} was detached while it was ${syscall === 'write' ? 'saved' : 'read'}; it must not be transferred or disposed before the promise settles`
  return detached(message, { syscall, tensor })
}
