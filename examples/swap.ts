/**
 * Optimizer state that is larger than its buffers: read k + 1, compute k, write k - 1, all at the
 * same time.
 *
 *   node examples/swap.ts
 *
 * Run it in a checkout after `npm run build:native`, with Node 22.18 or newer. In your own project
 * the imports are `from 'deepring'` and `from 'deepring/aio'`. The names are DeepNVMe's, so users
 * of its swapper can read this (docs/porting-from-deepnvme.md).
 *
 * Three buffers rotate. While partition k is computed, partition k + 1 is read into the next
 * buffer, and partition k - 1 is written from the one before. Reads and writes have separate
 * handles, because `wait()` waits for all operations of its handle.
 */

import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setImmediate } from 'node:timers/promises'
import { allocateTensor, type Tensor } from '../index.ts'
import { AioHandle } from '../lib/aio/index.ts'

const PARTITIONS = 8
const WEIGHTS_PER_PARTITION = 4 * 2 ** 20
const STEPS = 2
const BUFFERS = 3

const directory = await mkdtemp(join(process.cwd(), 'swap-'))
const fileOf = (partition: number): string => join(directory, `${partition}.tensor.swp`)

const reader = new AioHandle({ blockSize: 1 << 20, queueDepth: 32, overlapEvents: true })
const writer = new AioHandle({ blockSize: 1 << 20, queueDepth: 32, overlapEvents: true })
const example = allocateTensor('F32', [0])
const buffers = Array.from({ length: BUFFERS }, () => reader.newCpuLockedTensor(WEIGHTS_PER_PARTITION, example))
const bufferOf = (partition: number): Tensor<'F32'> => buffers[partition % BUFFERS]!

/**
 * Stands for an optimizer's step, which would run on other threads or another device. Here it runs
 * on this thread, and requests leave at the end of the tick that made them. It therefore lets that
 * tick end before it computes.
 */
async function compute({ data }: Tensor<'F32'>): Promise<void> {
  await setImmediate()
  for (let index = 0; index < data.length; index++) data[index]! += 1
}

async function step(): Promise<void> {
  reader.asyncPread(bufferOf(0), fileOf(0))
  for (let partition = 0; partition < PARTITIONS; partition++) {
    await reader.wait()
    if (partition + 1 < PARTITIONS) reader.asyncPread(bufferOf(partition + 1), fileOf(partition + 1))
    await compute(bufferOf(partition))
    // The previous write must have completed, because the next read goes into its buffer.
    await writer.wait()
    writer.asyncPwrite(bufferOf(partition), fileOf(partition))
  }
  await writer.wait()
}

try {
  for (let partition = 0; partition < PARTITIONS; partition++) {
    bufferOf(0).data.fill(partition)
    await writer.pwrite(bufferOf(0), fileOf(partition))
  }
  const started = performance.now()
  for (let count = 0; count < STEPS; count++) await step()
  const seconds = (performance.now() - started) / 1000

  // Read with node:fs, which checks the files independently of the library that wrote them.
  let wrong = 0
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const { buffer, byteOffset } = await readFile(fileOf(partition))
    const weights = new Float32Array(buffer, byteOffset, WEIGHTS_PER_PARTITION)
    if (!weights.every((weight) => weight === partition + STEPS)) wrong++
  }
  const bytes = 2 * STEPS * PARTITIONS * bufferOf(0).byteLength
  const rate = (bytes / 1e9 / seconds).toFixed(2)
  console.log(`${STEPS} steps over ${PARTITIONS} partitions with ${BUFFERS} buffers: ${rate} GB/s`)
  console.log(wrong === 0 ? 'every weight is what it should be' : `${wrong} partitions are WRONG`)
  process.exitCode = wrong === 0 ? 0 : 1
} finally {
  for (const buffer of buffers) reader.freeCpuLockedTensor(buffer)
  await rm(directory, { recursive: true })
}
