/** The functions of the binding for files of tensors. */

import type { Native } from '../core/native.ts'
import type { Texts } from '../core/tensors.ts'
import { unsupported } from './failure.ts'
import { pathNow } from './files.ts'
import { Job, progressOf, startJob } from './job.ts'
import { loadAll, planOf, verifyAll } from './load.ts'
import { closeFiles, openAll, openMeant, openRows } from './open-tables.ts'
import { abandon, commit, create, writeAll, Writer, type Output } from './save.ts'
import { known, type Session } from './session.ts'
import { boundsIn } from './slices.ts'
import { CANCELED } from './steps.ts'
import { groupBytesOf, Stream } from './stream.ts'
import { Table, textsOf } from './table.ts'

/** Paths as their bytes, one behind the other. */
function pathsOf(bytes: Uint8Array, lengths: Uint32Array): string[] {
  let at = 0
  return Array.from(lengths, (length) => {
    const path = pathNow(bytes.subarray(at, at + length))
    at += length
    return path.toString()
  })
}

/** Takes something out of its table. */
function taken<T>(from: Map<number, T>, number: number, what: string): T {
  const found = known(from, number, what)
  from.delete(number)
  return found
}

/** Tables that are looked up. */
function lookupsOf(
  table: (number: number) => Table,
): Pick<
  Native,
  'tableNames' | 'tableRow' | 'tableRows' | 'tableFind' | 'tableSelect' | 'tableMetadata' | 'tableStrays'
> {
  return {
    tableNames: (number, from, count, indices): Texts => table(number).names(from, count, indices),
    tableRow: (number, index) => table(number).tableRow(index),
    tableRows: (number, from, count) => table(number).tableRows(from, count),
    tableFind: (number, name) => table(number).find(name),
    tableSelect: (number, indices) => table(number).select(indices),
    tableMetadata: (number) => textsOf([...table(number).found.metadata].flat()),
    tableStrays(number, missing) {
      const { found } = table(number)
      return textsOf(missing ? found.missing : found.unindexed)
    },
  }
}

export function tensorsOf(
  session: Session,
): Pick<
  Native,
  | keyof ReturnType<typeof lookupsOf>
  | 'progress'
  | 'openSafetensors'
  | 'openRows'
  | 'closeTable'
  | 'dropTable'
  | 'verifyTable'
  | 'loadTensors'
  | 'openStream'
  | 'nextGroup'
  | 'keepTensor'
  | 'closeStream'
  | 'saveTensors'
  | 'commitSave'
  | 'abandonSave'
  | 'createWriter'
  | 'writeTensor'
  | 'finishWriter'
  | 'abortWriter'
  | 'dropWriter'
  | 'convert'
> {
  const tables = new Map<number, Table>()
  const streams = new Map<number, Stream>()
  const outputs = new Map<number, { readonly output: Output; readonly engine: number }>()
  const writers = new Map<number, { readonly writer: Writer; readonly engine: number }>()
  const tableOf = (number: number): Table => known(tables, number, 'table')

  /** Begins a job of an engine. */
  const start = (id: number, engine: number, syscall: string, body: (job: Job) => Promise<unknown>): void =>
    startJob(session, id, session.engine(engine), syscall, body)

  /** Begins an open. */
  const open = (id: number, engine: number, find: (job: Job) => ReturnType<typeof openAll>): void =>
    start(id, engine, 'open', async (job) => {
      const table = new Table(await find(job))
      const number = session.number()
      tables.set(number, table)
      return table.opened(number)
    })

  return {
    ...lookupsOf(tableOf),
    progress: (id, bytes) => progressOf(session, id, bytes),
    openSafetensors(id, engine, bytes, lengths, one, direct, strict, maxHeaderBytes) {
      const paths = pathsOf(bytes, lengths)
      const how = { direct, strict, maxHeaderBytes }
      open(id, engine, (job) =>
        one ? openMeant(session, job, paths[0] as string, how) : openAll(session, job, paths, how),
      )
    },
    openRows(id, engine, names, nameBytes, dtypes, dtypeOf, ranks, extents, bytes, lengths, pathOf, places, direct) {
      const columns = { names, nameBytes, dtypes, dtypeOf, ranks, extents }
      const paths = pathsOf(bytes, lengths)
      const rowPaths = Array.from(pathOf, (number) => paths[number] as string)
      const own = places.slice()
      open(id, engine, (job) => openRows(session, job, columns, rowPaths, own, direct))
    },
    closeTable(id, number) {
      const { found } = tableOf(number)
      startJob(session, id, found.engine, 'close', (job) => closeFiles(job, found.files))
    },
    dropTable: (number) => void tables.delete(number),
    verifyTable(id, number) {
      const table = tableOf(number)
      startJob(session, id, table.found.engine, 'read', (job) => verifyAll(job, table))
    },
    loadTensors(id, number, indices, slices, groupBytes, verify, into, views) {
      const table = tableOf(number)
      const bounds = boundsIn(slices)
      const elsewhere = new Map(Array.from(into, (index, nth) => [index, views[nth] as Uint8Array]))
      const all = inFileOrder(table, indices)
      startJob(session, id, table.found.engine, 'read', async (job) => {
        const split = (those: boolean) => {
          const wanted = all.filter((index) => elsewhere.has(index) === those)
          const own = new Map([...bounds].filter(([index]) => elsewhere.has(index) === those))
          return planOf(table, wanted, own, groupBytes, verify === true)
        }
        return loadAll(session, job, split(false), elsewhere, split(true))
      })
    },
    openStream(number, indices, slices, memory, inOrder, verify) {
      const table = tableOf(number)
      const bounds = boundsIn(slices)
      const wanted = inOrder && indices !== null ? [...new Set(indices)] : inFileOrder(table, indices)
      const plan = () => planOf(table, wanted, bounds, groupBytesOf(memory), verify === true)
      const stream = session.number()
      streams.set(stream, new Stream(session, table.found.engine, memory, plan))
      return stream
    },
    nextGroup(id, number) {
      const stream = known(streams, number, 'stream')
      startJob(session, id, stream.engine, 'read', async (job) => {
        // Canceled, it ends the stream.
        job.onCancel = () => stream.close()
        const next = await stream.next()
        if (next === undefined) {
          if (job.isCanceled) throw CANCELED
          return null
        }
        const { group, memory } = next
        const { indices, offsets, bytes } = group
        const place = { indices: Uint32Array.from(indices), offsets: Float64Array.from(offsets) }
        return { memory: bytes === 0 ? 0 : session.memory.bring(session.number(), memory), ...place }
      })
    },
    keepTensor(id, number, view, name) {
      const stream = known(streams, number, 'stream')
      startJob(session, id, stream.engine, 'copy', async () => {
        const own = stream.keep(view, name)
        return own.byteLength === 0 ? 0 : session.memory.bring(session.number(), own)
      })
    },
    closeStream(number) {
      streams.get(number)?.close()
      streams.delete(number)
    },
    saveTensors(id, engine, path, request, views) {
      const to = pathNow(path).toString()
      // The caller's list can change.
      const own = [...views]
      start(id, engine, 'write', async (job) => {
        const output = await create(job, to, request)
        try {
          await writeAll(job, output, own)
        } catch (error) {
          await abandon(job, output)
          throw error
        }
        const written = session.number()
        outputs.set(written, { output, engine })
        return { written, bytes: output.layout.size }
      })
    },
    commitSave(id, written) {
      const { output, engine } = taken(outputs, written, 'save')
      start(id, engine, 'rename', (job) => commit(job, output))
    },
    abandonSave(id, written) {
      const { output, engine } = taken(outputs, written, 'save')
      start(id, engine, 'unlink', (job) => abandon(job, output))
    },
    createWriter(id, engine, path, request) {
      const to = pathNow(path).toString()
      start(id, engine, 'open', async (job) => {
        const writer = new Writer(await create(job, to, request))
        const number = session.number()
        writers.set(number, { writer, engine })
        return number
      })
    },
    writeTensor(id, number, name, view, offset) {
      const { writer, engine } = known(writers, number, 'writer')
      start(id, engine, 'write', (job) => writer.write(job, name, view, offset))
    },
    finishWriter(id, number) {
      const { writer, engine } = taken(writers, number, 'writer')
      start(id, engine, 'rename', (job) => writer.finish(job))
    },
    abortWriter(id, number) {
      const { writer, engine } = taken(writers, number, 'writer')
      start(id, engine, 'unlink', (job) => abandon(job, writer.output))
    },
    dropWriter(number) {
      const found = writers.get(number)
      if (found === undefined) return
      writers.delete(number)
      const engine = session.engines.get(found.engine)
      if (engine !== undefined) abandon(new Job(session, engine), found.writer.output).catch(() => {})
    },
    convert(id) {
      session.delivery.fail(id, unsupported('The conversion of elements', 'convert').failure)
    },
  }
}

/** Those at these indices, or all, in the order of their bytes. */
function inFileOrder({ found }: Table, indices: Uint32Array | null): number[] {
  if (indices === null) return found.rows.map((_, index) => index)
  return [...new Set(indices)].toSorted((a, b) => a - b)
}
