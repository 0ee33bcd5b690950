/**
 * Several workers over one file: one descriptor, one memory, no copy. Each reads its part and adds up its numbers.
 *
 *   node examples/workers.ts                   a 64 MiB sample that it creates and removes
 *   node examples/workers.ts FILE              any file, as numbers of 32 bits
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import is
 * `from 'deepring'`.
 *
 * The main thread posts a token of the file, not the file. The memory is shared, so it is posted as it is.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { allocateShared, FileHandle, open, writeFile, type SharedFile } from '../index.ts'

const SAMPLE_BYTES = 64 << 20
const WORKERS = 4
const BLOCK_BYTES = 1 << 20

interface Task {
  readonly token: SharedFile
  readonly memory: Uint8Array
  readonly start: number
  readonly end: number
}

/** Adds up the numbers of a part of the file, block by block. */
async function sumPart({ token, memory, start, end }: Task): Promise<{ sum: number; copied: number }> {
  await using file = FileHandle.from(token)
  const numbers = new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength / 4)
  let [sum, copied] = [0, 0]
  for (let position = start; position < end; position += BLOCK_BYTES) {
    const length = Math.min(BLOCK_BYTES, end - position)
    const { bytesRead, receipt } = await file.read(memory, { position, length })
    for (const number of numbers.subarray(0, bytesRead / 4)) sum = (sum + number) >>> 0
    copied += receipt.bounced
  }
  return { sum, copied }
}

async function sumFile(path: string): Promise<number> {
  await using file = await open(path)
  const { size } = await file.stat()
  const memory = allocateShared(WORKERS * BLOCK_BYTES)
  const share = Math.ceil(size / WORKERS / BLOCK_BYTES) * BLOCK_BYTES
  const sums = Array.from({ length: WORKERS }, async (_, index) => {
    const start = Math.min(size, index * share)
    const part = memory.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)
    const task: Task = { token: file.share(), memory: part, start, end: Math.min(size, start + share) }
    const worker = new Worker(new URL(import.meta.url), { workerData: task })
    return new Promise<{ sum: number; copied: number }>((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
    })
  })
  // The file stays open until all have answered: a token does not keep it open.
  const done = await Promise.all(sums)
  const total = done.reduce((sum, part) => (sum + part.sum) >>> 0, 0)
  const copied = done.reduce((sum, part) => sum + part.copied, 0)
  console.log(`${WORKERS} workers summed ${size} bytes to ${total}, ${copied} of them copied on the way`)
  return total
}

async function main(): Promise<void> {
  const [path] = process.argv.slice(2)
  if (path !== undefined) {
    await sumFile(path)
    return
  }
  // Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
  const directory = await mkdtemp(join(process.cwd(), 'workers-'))
  try {
    const sample = join(directory, 'sample.bin')
    const numbers = new Uint32Array(SAMPLE_BYTES / 4).map((_, index) => Math.imul(index, 2_654_435_761))
    await writeFile(sample, numbers)
    const expected = numbers.reduce((sum, number) => (sum + number) >>> 0, 0)
    const right = (await sumFile(sample)) === expected
    console.log(right ? 'the sum is right' : `THE SUM IS WRONG, it is ${expected}`)
    if (!right) process.exitCode = 1
  } finally {
    await rm(directory, { recursive: true })
  }
}

if (isMainThread) await main()
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
else parentPort?.postMessage(await sumPart(workerData as Task))
