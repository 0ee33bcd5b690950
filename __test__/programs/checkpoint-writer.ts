/** Writes its rows of a table that several writers have, as a worker or as a process, and reports each step. */

import process from 'node:process'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import { openCheckpoints } from '../../lib/checkpoint/index.ts'
import { rowsOf } from '../rows.ts'

export interface WriterParameters {
  readonly directory: string
  readonly token: string
  /** Its number, and the rows that it has. */
  readonly writer: number
  readonly writers: number
  readonly rows: number
  readonly columns: number
  /** After this step it waits without end. */
  readonly waits: 'joined' | 'put' | 'committed'
}

const parameters = (isMainThread ? JSON.parse(process.argv[2] as string) : workerData) as WriterParameters
const { directory, token, writer, writers, rows, columns, waits } = parameters

async function report(step: WriterParameters['waits']): Promise<void> {
  // A worker's port has no origin.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  if (parentPort !== null) parentPort.postMessage(step)
  else process.stdout.write(`${step}\n`)
  if (step !== waits || step === 'committed') return
  setInterval(() => {}, 1000)
  await new Promise(() => {})
}

const store = await openCheckpoints(directory)
const part = await store.join(token, writer)
await report('joined')
const own = { dtype: 'U8', shape: [rows, columns], data: rowsOf(writer, rows, columns) }
await part.put('table', own, { shape: [writers * rows, columns], start: [writer * rows, 0] })
await report('put')
await part.commit()
await store.close()
await report('committed')
