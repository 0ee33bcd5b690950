/** Files of tensors that are written, whole or in any order, and get their name at the end. */

import { quotedName } from '../core/errors.ts'
import type { Saved, SaveRequest } from '../core/tensors.ts'
import { combine } from './crc32c.ts'
import { failed, Failed, failureOf, unsupported } from './failure.ts'
import type { Job } from './job.ts'
import { declaredIn, invalid, layoutOf, sealed, type Declared, type Layout } from './layout.ts'
import { call, CANCELED, type Steps } from './steps.ts'
import { writeSteps } from './transfer.ts'
import { commitSteps, replaceSteps, type Replacement } from './whole.ts'

/** A file that is being written. */
export interface Output {
  readonly fd: number
  readonly replacement: Replacement
  readonly layout: Layout
  readonly tensors: readonly Declared[]
  readonly checksums: boolean
  readonly blockBytes: number
}

/** Permissions of a new file, before the umask. */
const MODE = 0o666

/** Creates the file. */
export async function create(job: Job, path: string, request: SaveRequest): Promise<Output> {
  if (request.shardBytes > 0) throw unsupported('A model in several files', 'open')
  const tensors = declaredIn(request.columns)
  const layout = layoutOf(tensors, request)
  const { durable, mode = MODE, checksums } = request
  const replacing = replaceSteps(path, { size: layout.size, durable, mode, direct: 0 })
  const { fd, replacement } = await job.run('open', replacing).catch((error: unknown) => {
    throw error === CANCELED ? error : new Failed({ ...failureOf(error, 'open'), path })
  })
  return { fd, replacement, layout, tensors, checksums, blockBytes: job.engine.blockBytes }
}

/** Writes bytes of a tensor, from its byte `start` on. Returns their checksum. */
export function* putSteps(output: Output, index: number, view: Uint8Array, start: number): Steps<number> {
  const { fd, layout, checksums, blockBytes } = output
  const position = (layout.positions[index] as number) + start
  const requested = view.byteLength
  const moved = yield* writeSteps({ fd, view, requested, position, blockBytes, exact: true, sum: checksums })
  return moved.checksum ?? 0
}

/** Writes all tensors and the header. */
export async function writeAll(job: Job, output: Output, views: readonly Uint8Array[]): Promise<void> {
  const { layout, tensors } = output
  for (const [nth, { name, dtype, shape, bytes }] of tensors.entries()) {
    const found = views[nth]?.byteLength ?? 0
    if (found === bytes) continue
    const what = `${dtype} of shape [${shape.join(', ')}] has ${bytes} bytes, and its data ${found}`
    throw invalid(`${what}, tensor ${quotedName(name)}`)
  }
  job.total = layout.size
  const sums: number[] = []
  for (const index of layout.order) {
    const view = views[index] as Uint8Array
    sums[index] = await job.run('write', putSteps(output, index, view, 0))
    job.done += view.byteLength
  }
  await writeHeader(job, output, sums)
}

/** Writes the header, with the checksums of the tensors. */
export async function writeHeader(job: Job, output: Output, sums: readonly number[]): Promise<void> {
  const { fd, layout, checksums, blockBytes } = output
  const view = checksums ? sealed(layout, sums) : layout.header
  const transfer = { fd, view, requested: view.length, position: 0, blockBytes, exact: true, sum: false }
  await job.run('write', writeSteps(transfer))
  job.done += view.length
}

/** Gives the file its name. */
export async function commit(job: Job, { fd, replacement, layout }: Output): Promise<Saved> {
  await job.runAnyway('close', call('close', fd))
  await job.run('rename', commitSteps(replacement)).catch(async (error: unknown) => {
    // A commit that was canceled before it began removes nothing.
    if (error === CANCELED) await job.runAnyway('unlink', removeSteps(replacement))
    throw error === CANCELED ? error : new Failed({ ...failureOf(error, 'rename'), path: String(replacement.path) })
  })
  return { bytes: layout.size, bounced: 0, direct: false, files: 1 }
}

function* removeSteps({ temporary }: Replacement): Steps<void> {
  try {
    yield* call('unlink', temporary)
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ENOENT') throw error
  }
}

/** Removes the file. */
export async function abandon(job: Job, { fd, replacement }: Output): Promise<void> {
  await job.runAnyway('close', call('close', fd))
  await job.runAnyway('unlink', removeSteps(replacement))
}

/** Bytes of a tensor that were written, or are being written. */
interface Part {
  readonly length: number
  /** `undefined` while it is being written. */
  sum: number | undefined
}

/** A file that is written in any order. */
export class Writer {
  readonly output: Output
  readonly #indices: ReadonlyMap<string, number>
  /** Of each tensor, by where they begin. */
  readonly #parts: readonly Map<number, Part>[]

  constructor(output: Output) {
    this.output = output
    this.#indices = new Map(output.tensors.map(({ name }, index) => [name, index]))
    this.#parts = output.tensors.map(() => new Map<number, Part>())
  }

  /** Writes bytes of a tensor. */
  async write(job: Job, name: string, view: Uint8Array, start: number): Promise<void> {
    const index = this.#indices.get(name)
    if (index === undefined) throw failed('ERR_DEEPRING_NOT_FOUND', '', 'there is no such tensor', { tensor: name })
    const { byteLength: length } = view
    const all = (this.output.tensors[index] as Declared).bytes
    const end = start + length
    if (end > all) throw invalid(`${length} bytes from ${start} on leave the ${all} of tensor ${quotedName(name)}`)
    const parts = this.#parts[index] as Map<number, Part>
    for (const [begin, part] of parts)
      if (begin < end && start < begin + part.length)
        throw invalid(`bytes of ${start}..${end} were given before, tensor ${quotedName(name)}`)
    if (length === 0) return
    const part: Part = { length, sum: undefined }
    parts.set(start, part)
    try {
      part.sum = await job.run('write', putSteps(this.output, index, view, start))
    } catch (error) {
      parts.delete(start)
      throw error === CANCELED ? error : new Failed({ ...failureOf(error, 'write'), tensor: name })
    }
  }

  /** Writes the header, if all tensors are whole, and gives the file its name. */
  async finish(job: Job): Promise<Saved> {
    try {
      const sums = this.output.tensors.map((tensor, index) => wholeSum(tensor, this.#parts[index] as Map<number, Part>))
      await writeHeader(job, this.output, sums)
    } catch (error) {
      await abandon(job, this.output)
      throw error
    }
    return commit(job, this.output)
  }
}

/** The checksum of a tensor whose parts are all written. */
function wholeSum({ name, bytes }: Declared, parts: ReadonlyMap<number, Part>): number {
  let [end, sum] = [0, 0]
  for (const [start, part] of [...parts].toSorted(([a], [b]) => a - b)) {
    if (start !== end || part.sum === undefined) break
    sum = combine(sum, part.sum, part.length)
    end += part.length
  }
  if (end < bytes) throw invalid(`bytes from ${end} on of ${bytes} were not written, tensor ${quotedName(name)}`)
  return sum
}
