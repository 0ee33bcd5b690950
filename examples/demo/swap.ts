/**
 * Out to the drive and back, as a user of DeepNVMe writes it.
 *
 * Out: one `AioHandle` takes every tensor (`asyncPwrite` only queues), and one `wait()` waits for
 * them all. The small ones are views into the model files, at any address; the large one is engine
 * memory. Back: the small ones come through an `AioHandle` again, each into a fresh tensor of its
 * type and shape. The large one comes through a `FileHandle`, as in a program that uses deepring's
 * own API.
 */

import { allocateTensor, info, open, type Tensor } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'
import type { Weight } from './onnx.ts'

/** A weight and the file that holds it while it is swapped out. */
export interface SwappedWeight {
  weight: Weight
  path: string
}

/** The path of the large tensor's bytes, and why it was chosen. */
export interface PathTaken {
  backend: string
  backendReason: string
  direct: boolean
  /** Empty if direct. */
  directReason: string
  fileSystem: string
  device: string
  queueDepth: number
  blockBytes: number
  inFlightBytes: number
  offsetAlignment: number
  memoryAlignment: number
  blocks: number
  bouncedBytes: number
}

/** Writes all; resolves with the number of finished operations. */
export async function swapOut(weights: readonly SwappedWeight[], large: Tensor, largePath: string): Promise<number> {
  const handle = new AioHandle({ overlapEvents: true })
  for (const { weight, path } of weights) handle.asyncPwrite(weight, path)
  handle.asyncPwrite(large, largePath)
  return handle.wait()
}

/** Reads the small tensors, each into fresh memory, in the order given. */
export async function swapInWeights(weights: readonly SwappedWeight[]): Promise<Tensor[]> {
  const handle = new AioHandle({ overlapEvents: true })
  const tensors = weights.map(({ weight, path }) => {
    const tensor = allocateTensor(weight.dtype, weight.shape)
    handle.asyncPread(tensor, path)
    return tensor
  })
  await handle.wait()
  return tensors
}

/** Reads the large tensor with one request, and reports the path of its bytes. */
export async function swapInLarge(tensor: Tensor, path: string): Promise<PathTaken> {
  await using file = await open(path, 'r')
  const { receipt } = await file.read(tensor, { position: 0, exact: true })
  const engine = await info(path)
  return {
    backend: receipt.backend,
    backendReason: engine.reason,
    direct: receipt.direct,
    directReason: file.directReason,
    fileSystem: engine.path?.fileSystem ?? '',
    device: engine.path?.device ?? '',
    queueDepth: engine.queueDepth,
    blockBytes: engine.blockSize,
    inFlightBytes: engine.inFlightBytes,
    offsetAlignment: file.alignment.offset,
    memoryAlignment: file.alignment.memory,
    blocks: receipt.blocks,
    bouncedBytes: receipt.bounced,
  }
}
