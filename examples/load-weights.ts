/**
 * Loads weights from a file into a tensor. The user can cancel it.
 *
 *   node examples/load-weights.ts            a 64 MiB sample that it creates and removes
 *   node examples/load-weights.ts FILE       any file
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your
 * own project the import is `from 'deepring'`.
 *
 * It shows memory that the device writes into directly, one promise for the whole file, a receipt
 * that reports the path of the bytes, and an `AbortSignal` that ends a read early. After an abort
 * the tensor can be used again at once, because the promise rejects only after the kernel has
 * released it.
 */

import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { allocateTensor, open } from '../index.ts'

const SAMPLE_WEIGHTS = 16 * 2 ** 20
const GIVE_UP_AFTER_MS = 60_000

async function loadWeights(path: string, signal: AbortSignal): Promise<void> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  using weights = allocateTensor('U8', [size])

  const started = performance.now()
  const { bytesRead, receipt } = await file.read(weights.data, { position: 0, exact: true, signal })
  const seconds = (performance.now() - started) / 1000
  const way = `${receipt.backend}, ${receipt.direct ? 'direct' : 'buffered'}`
  console.log(`read ${bytesRead} bytes in ${seconds.toFixed(3)} s: ${(bytesRead / 1e9 / seconds).toFixed(2)} GB/s`)
  console.log(`receipt: ${way}, ${receipt.blocks} blocks, ${receipt.bounced} bytes copied on the way`)

  // The same read again, aborted at once.
  const controller = new AbortController()
  const reason = new Error('these weights are no longer needed')
  const read = file.read(weights.data, {
    position: 0,
    exact: true,
    signal: AbortSignal.any([signal, controller.signal]),
  })
  controller.abort(reason)
  const outcome = await read.then(
    () => 'it had already finished',
    (error: Error) => (error.cause === reason ? reason.message : Promise.reject(error)),
  )
  console.log(`second read given up: ${outcome}`)
}

/** A file whose every byte depends on its position. */
async function makeSample(directory: string): Promise<string> {
  const path = join(directory, 'weights.bin')
  const weights = new Float32Array(SAMPLE_WEIGHTS)
  for (let index = 0; index < weights.length; index++) weights[index] = Math.sin(index)
  await writeFile(path, weights)
  return path
}

const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort(new Error('interrupted')))
const signal = AbortSignal.any([interrupted.signal, AbortSignal.timeout(GIVE_UP_AFTER_MS)])

const given = process.argv[2]
if (given !== undefined) {
  await loadWeights(given, signal)
} else {
  // Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
  const directory = await mkdtemp(join(process.cwd(), 'load-weights-'))
  try {
    await loadWeights(await makeSample(directory), signal)
  } finally {
    await rm(directory, { recursive: true })
  }
}
