/** Opening models: a file, an index, a directory with one of them, several files, or rows of another format. */

import { Buffer } from 'node:buffer'
import type { BigIntStats } from 'node:fs'
import { dirname, join, sep } from 'node:path'
import { quotedName } from '../core/errors.ts'
import { DIRECT, OPEN } from '../core/record.ts'
import type { TensorColumns } from '../core/tensors.ts'
import { failed, Failed, failureOf } from './failure.ts'
import { Fault } from './fault.ts'
import { closeSteps, openSteps, type NodeFile } from './files.ts'
import { compareBytes, COUNT_MAX, LENGTH_BYTES, parseHeader, UNKNOWN_MAX, type Header, type Row } from './header.ts'
import type { Job } from './job.ts'
import { forEachOf } from '../core/for-each.ts'
import { JsonFault, JsonReader } from './json.ts'
import { declaredIn } from './layout.ts'
import type { Session } from './session.ts'
import { call, CANCELED, type Steps } from './steps.ts'
import { statedIn } from './sums.ts'
import type { Found, Stated } from './table.ts'
import { bitsOf } from './dtype.ts'
import { BLOCK_BYTES, readSteps } from './transfer.ts'

/** Read of every file at once: more than the header of most models. */
const FIRST_BYTES = 256 << 10

/** The largest index. */
const INDEX_BYTES_MAX = 256 << 20

/** The most files that an index can name. */
const INDEX_FILES_MAX = 2 ** 16

/** Files that are opened at once. */
const FILES_AT_ONCE = 16

/** How to open. */
export interface Opening {
  readonly direct: number
  readonly strict: boolean
  readonly maxHeaderBytes: number
}

/** A file with its header. */
interface Part {
  readonly file: NodeFile
  readonly header: Header
  /** Where the data begins. */
  readonly start: number
  readonly stated: ReturnType<typeof statedIn>
}

/** What an index says. */
interface Index {
  /** The number of the file of each tensor. */
  readonly fileOf: ReadonlyMap<string, number>
  /** Names of the files, in their order. */
  readonly files: readonly string[]
}

/** Opens what a path means. */
export async function openMeant(session: Session, job: Job, path: string, how: Opening): Promise<Found> {
  const meant = await resolve(job, path)
  return meant.endsWith('.json') ? openIndex(session, job, meant, how) : openAll(session, job, [meant], how)
}

/** Opens several files as one model. */
export async function openAll(session: Session, job: Job, paths: readonly string[], how: Opening): Promise<Found> {
  const parts = await openParts(session, job, paths, how, () => undefined)
  return closingOnError(job, parts, () => assemble(job, paths, parts, undefined))
}

/** A file, or an index. */
async function resolve(job: Job, path: string): Promise<string> {
  const kindOf = async (of: string): Promise<BigIntStats | undefined> => {
    try {
      return await job.run('open', call<BigIntStats>('stat', of, { bigint: true }))
    } catch (error) {
      if (error === CANCELED) throw error
      return undefined
    }
  }
  if ((await kindOf(path))?.isDirectory() !== true) return path
  const index = join(path, 'model.safetensors.index.json')
  if ((await kindOf(index)) !== undefined) return index
  const usual = join(path, 'model.safetensors')
  if ((await kindOf(usual)) !== undefined) return usual
  let names: string[] = []
  try {
    names = await job.run('open', call<string[]>('readdir', path))
  } catch (error) {
    // A directory that cannot be listed: opening what it would have fails with the same error.
    if (error === CANCELED) throw error
  }
  const ending = (end: string): string[] => names.filter((name) => name.endsWith(end)).map((name) => join(path, name))
  const [indices, files] = [ending('.safetensors.index.json'), ending('.safetensors')]
  const [only] = indices.length === 0 ? files : indices
  if (only === undefined) return usual
  if (indices.length === 1 || (indices.length === 0 && files.length === 1)) return only
  const what = indices.length === 0 ? 'files and no index' : 'indices'
  throw new Fault('ambiguous', `the directory has several ${what}; name one`).at(path)
}

async function openIndex(session: Session, job: Job, path: string, how: Opening): Promise<Found> {
  const index = await job.run('open', indexSteps(path)).catch(inFile(path))
  const paths = index.files.map((name) => join(dirname(path), name))
  const firsts = new Map<number, string>()
  for (const [name, file] of index.fileOf) if (!firsts.has(file)) firsts.set(file, name)
  const parts = await openParts(session, job, paths, how, (number) => firsts.get(number))
  return closingOnError(job, parts, () => {
    const names = parts.map(({ header }) => new Set(header.rows.map(({ name }) => name)))
    const missing = [...index.fileOf].filter(([name, file]) => names[file]?.has(name) !== true)
    const [first] = missing
    if (how.strict && first !== undefined) {
      const [name, file] = first
      const detail = `the index gives it to ${quotedName(paths[file] ?? '')}, which does not have it`
      throw new Fault('index', detail, name).at(path)
    }
    return { ...assemble(job, paths, parts, index), missing: missing.map(([name]) => name) }
  })
}

function* indexSteps(path: string): Steps<Index> {
  const { fd } = yield* openSteps(path, OPEN.read, 0)
  try {
    const size = Number((yield* call<BigIntStats>('fstat', fd, { bigint: true })).size)
    if (size > INDEX_BYTES_MAX)
      throw new Fault('too-large', `the index has ${size} bytes, more than ${INDEX_BYTES_MAX}`).at(path)
    const bytes = yield* bytesSteps(fd, size)
    return parseIndex(bytes)
  } finally {
    yield* call('close', fd)
  }
}

/** The first bytes of a file. */
export function* bytesSteps(fd: number, length: number): Steps<Buffer> {
  const view = Buffer.allocUnsafeSlow(length)
  yield* readSteps({ fd, view, requested: length, position: 0, blockBytes: BLOCK_BYTES, exact: true, sum: false })
  return view
}

/** Reads the JSON of an index. */
function parseIndex(bytes: Uint8Array): Index {
  const given = new Map<string, string>()
  let seen = false
  try {
    const json = new JsonReader(bytes)
    json.object('an object with a weight_map', (key) => {
      if (key !== 'weight_map') {
        json.skip(true)
        return
      }
      if (seen) throw new Fault('duplicate', 'weight_map is there twice')
      seen = true
      json.object('an object with the file of each tensor', (name) => {
        const file = json.string()
        if (!isContained(file)) {
          const detail = `${quotedName(file)} is not the name of a file below the directory of the index`
          throw new Fault('path', detail, name)
        }
        if (given.has(name)) throw new Fault('duplicate', 'the index has the name twice', name)
        given.set(name, file)
      })
    })
    json.end()
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error
    throw new Fault(error.isSyntax ? 'json' : 'index', `the index is wrong: ${error.message}`)
  }
  if (!seen) throw new Fault('index', 'the index has no weight_map')
  const files = [...new Set(given.values())].toSorted(compareBytes)
  if (files.length > INDEX_FILES_MAX) throw new Fault('index', `the index names more than ${INDEX_FILES_MAX} files`)
  const numbers = new Map(files.map((file, number) => [file, number]))
  return { files, fileOf: new Map([...given].map(([name, file]) => [name, numbers.get(file) as number])) }
}

/** Whether a name in an index stays below its directory. */
function isContained(name: string): boolean {
  const parts = name.split(sep === '/' ? /\/+/ : /[/\\]+/)
  const isDrive = sep !== '/' && name.includes(':')
  if (name.includes('\0') || isDrive || parts[0] === '') return false
  // A dot in the middle is no part; one at the beginning is.
  const named = parts.filter((part, nth) => part !== '' && (part !== '.' || nth === 0))
  return named.length > 0 && named.every((part) => part !== '.' && part !== '..')
}

/** Opens all files, and reads their headers. `needs` names a tensor that needs a file, for errors. */
async function openParts(
  session: Session,
  job: Job,
  paths: readonly string[],
  how: Opening,
  needs: (number: number) => string | undefined,
): Promise<Part[]> {
  if (how.direct === DIRECT.require) throw notDirect()
  const parts: Part[] = []
  try {
    await forEachOf(
      paths.map((path, number) => ({ path, number })),
      FILES_AT_ONCE,
      async ({ path, number }) => {
        parts[number] = await job.run('open', partSteps(session, job, path, how)).catch(inFile(path, needs(number)))
      },
    )
    return parts
  } catch (error) {
    await closeAll(job, parts)
    throw error
  }
}

function* partSteps(session: Session, job: Job, path: string, how: Opening): Steps<Part> {
  const descriptor = yield* openSteps(path, OPEN.read, 0)
  const { fd } = descriptor
  try {
    const size = Number((yield* call<BigIntStats>('fstat', fd, { bigint: true })).size)
    const first = yield* bytesSteps(fd, Math.min(size, FIRST_BYTES))
    const start = LENGTH_BYTES + headerLength(first, size, how.maxHeaderBytes)
    const text = start <= first.length ? first.subarray(0, start) : yield* bytesSteps(fd, start)
    const header = parseHeader(text.subarray(LENGTH_BYTES), size - start, how.strict)
    const stated = statedIn(header, text)
    return { file: session.ownFile(job.engine, descriptor), header, start, stated }
  } catch (error) {
    yield* call('close', fd)
    throw error
  }
}

/** The length of a header, from the first bytes of a file of this size. */
function headerLength(first: Buffer, size: number, max: number): number {
  if (first.length < LENGTH_BYTES)
    throw new Fault('too-short', `the file has ${size} bytes, fewer than the length of a header`)
  const length = first.readBigUInt64LE()
  if (length > size - LENGTH_BYTES)
    throw new Fault('header-length', `the header has ${length} bytes, and the file ${size}`)
  if (length > max)
    throw new Fault('header-too-large', `the header has ${length} bytes, and at most ${max} are allowed`)
  return Number(length)
}

/** Rethrows with the file, and the tensor that needs it. */
function inFile(path: string, tensor?: string): (error: unknown) => never {
  return (error) => {
    if (error === CANCELED) throw error
    if (error instanceof Fault) throw error.at(path)
    const failure = failureOf(error, 'open')
    throw new Failed({ ...failure, path: failure.path ?? path, ...(tensor === undefined ? {} : { tensor }) })
  }
}

async function closingOnError(job: Job, parts: readonly Part[], make: () => Found): Promise<Found> {
  try {
    return make()
  } catch (error) {
    await closeAll(job, parts)
    throw error
  }
}

async function closeAll(job: Job, parts: readonly (Part | undefined)[]): Promise<void> {
  const open = parts.flatMap((part) => (part === undefined ? [] : [part.file]))
  await closeFiles(job, open)
}

/** Closes files, also in a job that was canceled. */
export async function closeFiles(job: Job, files: readonly NodeFile[]): Promise<void> {
  await Promise.all(files.map((file) => job.runAnyway('close', closeSteps(file))))
}

/** One table of all files. With an index, of what it gives to them. */
function assemble(job: Job, paths: readonly string[], parts: readonly Part[], index: Index | undefined): Found {
  const metadata = new Map<string, string>()
  const [rows, sums, headers, unindexed]: [Row[], (number | undefined)[], (Stated | undefined)[], string[]] = [
    [],
    [],
    [],
    [],
  ]
  const [names, unknown] = [new Set<string>(), new Set<string>()]
  let trailing = 0
  for (const [number, { header, start, stated }] of parts.entries()) {
    const path = paths[number] as string
    trailing += header.trailing
    // The first that has a key counts.
    for (const [key, value] of header.metadata) if (!metadata.has(key)) metadata.set(key, value)
    for (const [nth, row] of header.rows.entries()) {
      const { name, dtype } = row
      if (index !== undefined && index.fileOf.get(name) !== number) {
        unindexed.push(name)
        continue
      }
      if (names.has(name)) throw new Fault('duplicate', 'another file has the name, too', name).at(path)
      names.add(name)
      if (bitsOf(dtype) === undefined) unknown.add(dtype)
      if (unknown.size > UNKNOWN_MAX)
        throw new Fault('field', 'there are too many unknown element types', name).at(path)
      row.position += start
      row.file = number
      rows.push(row)
      sums.push(stated?.sums[nth])
    }
    headers.push(stated?.header)
  }
  const sorted = new Map([...metadata].toSorted(([a], [b]) => compareBytes(a, b)))
  const files = parts.map(({ file }) => file)
  return { engine: job.engine, rows, paths, files, metadata: sorted, trailing, unindexed, missing: [], sums, headers }
}

/** Opens a table of rows. `places` has all positions, then all lengths. */
export async function openRows(
  session: Session,
  job: Job,
  columns: TensorColumns,
  paths: readonly string[],
  places: Float64Array,
  direct: number,
): Promise<Found> {
  if (direct === DIRECT.require) throw notDirect()
  const rows = declaredIn(columns).map(({ name, dtype, shape }, nth) => {
    const path = paths[nth] as string
    return {
      name,
      dtype,
      shape,
      path,
      position: places[nth] as number,
      length: places[paths.length + nth] as number,
      file: 0,
    }
  })
  const sorted = rows.toSorted((a, b) => compareBytes(a.path, b.path) || a.position - b.position || a.length - b.length)
  const [names, unknown] = [new Set<string>(), new Set<string>()]
  for (const { path, ...row } of sorted) checkRow(row, path, names, unknown)
  const files = [...new Set(sorted.map(({ path }) => path))]
  const numbers = new Map(files.map((path, number) => [path, number]))
  for (const row of sorted) row.file = numbers.get(row.path) as number
  const opened: NodeFile[] = []
  try {
    await forEachOf([...files.entries()], FILES_AT_ONCE, async ([number, path]) => {
      const own = sorted.filter(({ file }) => file === number)
      const steps = function* (): Steps<NodeFile> {
        const descriptor = yield* openSteps(path, OPEN.read, 0)
        try {
          const size = Number((yield* call<BigIntStats>('fstat', descriptor.fd, { bigint: true })).size)
          const beyond = own.find(({ position, length }) => position + length > size)
          if (beyond !== undefined)
            throw new Fault(
              'truncated',
              `it ends at ${beyond.position + beyond.length}, and the file at ${size}`,
              beyond.name,
            )
          return session.ownFile(job.engine, descriptor)
        } catch (error) {
          yield* call('close', descriptor.fd)
          throw error
        }
      }
      opened[number] = await job.run('open', steps()).catch(inFile(path, own[0]?.name))
    })
  } catch (error) {
    await closeFiles(
      job,
      opened.filter((file) => file !== undefined),
    )
    throw error
  }
  const nothing = { metadata: new Map(), trailing: 0, unindexed: [], missing: [], sums: [], headers: [] }
  return { engine: job.engine, rows: sorted, paths: files, files: opened, ...nothing }
}

function checkRow(
  { name, dtype, shape, position, length }: Row,
  path: string,
  names: Set<string>,
  unknown: Set<string>,
): void {
  const bits = bitsOf(dtype)
  if (bits === undefined) unknown.add(dtype)
  if (unknown.size > UNKNOWN_MAX) throw new Fault('field', 'there are too many unknown element types', name).at(path)
  const elements = shape.reduce((product, extent) => product * BigInt(extent), 1n)
  if (elements > COUNT_MAX || position + length > Number.MAX_SAFE_INTEGER)
    throw new Fault('overflow', 'it has more elements or bytes than can be counted', name).at(path)
  if (bits !== undefined && elements * BigInt(bits) !== BigInt(length) * 8n)
    throw new Fault('size', `${elements} elements of ${dtype} do not have ${length} bytes`, name).at(path)
  if (names.has(name)) throw new Fault('duplicate', `the name ${quotedName(name)} is there twice`, name).at(path)
  names.add(name)
}

function notDirect(): Failed {
  return failed(
    'ERR_DEEPRING_DIRECT',
    'open',
    'direct I/O was required and is not available (node:fs has no direct I/O)',
  )
}
