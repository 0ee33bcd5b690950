/**
 * Out to the drive and back: a model as safetensors, and its tensors one by one, as a user of DeepNVMe writes it.
 *
 * One `AioHandle` takes every tensor (`asyncPwrite` only queues), and one `wait()` waits for them all. Back, each comes into a
 * fresh tensor of its type and shape.
 */

import { allocateTensor, info, type Tensor } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'
import { openSafetensors, type TensorMap } from '../../lib/safetensors/index.ts'

/** The path of the model's bytes, and why it was chosen. */
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
  bouncedBytes: number
  realignedTensors: number
}

/** Loads the whole model, and reports the path of its bytes. */
export async function loadModel(path: string): Promise<{ tensors: TensorMap; taken: PathTaken }> {
  await using model = await openSafetensors(path)
  const tensors = await model.load()
  const { receipt } = tensors
  const engine = await info(path)
  const taken = {
    backend: engine.backend,
    backendReason: engine.reason,
    direct: receipt.direct,
    directReason: receipt.direct ? '' : (engine.path?.directReason ?? ''),
    fileSystem: engine.path?.fileSystem ?? '',
    device: engine.path?.device ?? '',
    queueDepth: engine.queueDepth,
    blockBytes: engine.blockSize,
    inFlightBytes: engine.inFlightBytes,
    offsetAlignment: engine.path?.offsetAlignment ?? 0,
    memoryAlignment: engine.path?.memoryAlignment ?? 0,
    bouncedBytes: receipt.bounced,
    realignedTensors: receipt.realigned,
  }
  return { tensors, taken }
}

/** Writes each tensor to the file of its place in the list; resolves with the number of finished operations. */
export async function swapOut(tensors: readonly Tensor[], paths: readonly string[]): Promise<number> {
  const handle = new AioHandle({ overlapEvents: true })
  for (const [index, tensor] of tensors.entries()) handle.asyncPwrite(tensor, paths[index]!)
  return handle.wait()
}

/** Reads tensors like these, each into fresh memory, in the order given. */
export async function swapIn(
  like: readonly Pick<Tensor, 'dtype' | 'shape'>[],
  paths: readonly string[],
): Promise<Tensor[]> {
  const handle = new AioHandle({ overlapEvents: true })
  const tensors = like.map(({ dtype, shape }, index) => {
    const tensor = allocateTensor(dtype, shape)
    handle.asyncPread(tensor, paths[index]!)
    return tensor
  })
  await handle.wait()
  return tensors
}
