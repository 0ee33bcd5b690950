/**
 * Tile, swap out, swap in, compare: the part of the demo that must not fail.
 *
 * The bars of the two transfers follow `stats()`, deepring's own counters, so they show bytes that
 * the drive has acknowledged.
 */

import { open as openFile, readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { allocateTensor, stats, type Tensor } from '../../index.ts'
import { findDifference } from './difference.ts'
import type { Model } from './models.ts'
import type { Progress } from './progress.ts'
import { swapInLarge, swapInWeights, swapOut, type PathTaken, type SwappedWeight } from './swap.ts'
import { fillWithTiles, joinTile } from './tiles.ts'
import type { Workspace } from './workspace.ts'

export interface RoundTrip {
  tensors: number
  bytes: number
  swapOutSeconds: number
  swapInSeconds: number
  /** One sentence per tensor that came back different; empty if all are the same. */
  mismatches: string[]
  taken: PathTaken
  /**
   * The swapped-out large tensor, left in place for the comparison, and the checksum of its bytes.
   */
  largePath: string
  largeCrc32: number
}

export async function roundTrip(
  workspace: Workspace,
  progress: Progress,
  models: readonly Model[],
  largeBytes: number,
  plantError: boolean,
): Promise<RoundTrip> {
  const weights = models.flatMap((model) =>
    model.weights.map((weight, index): SwappedWeight => {
      return { weight, path: workspace.path(`${model.name}.${index}.tensor.swp`) }
    }),
  )
  const largePath = workspace.path('large.tensor.swp')
  const tensors = weights.length + 1
  const bytes = models.reduce((sum, model) => sum + model.bytes, largeBytes)
  let done = 0

  using large = allocateTensor('F32', [largeBytes / Float32Array.BYTES_PER_ELEMENT])
  const source = bytesOf(large)
  const tile = joinTile(weights.map(({ weight }) => weight.data))
  const filled = (): Promise<void> => fillWithTiles(source, tile, (filledBytes) => (done = filledBytes))
  const tiles = Math.ceil(largeBytes / tile.length)
  await progress.step(
    'tile',
    largeBytes,
    () => done,
    filled,
    () => `${tiles} tiles of the weights, every one different`,
  )

  const written = stats().writtenBytes
  const out = await progress.step(
    'swap out',
    bytes,
    () => stats().writtenBytes - written,
    () => swapOut(weights, large, largePath),
    (operations) => `${operations} tensors`,
  )
  if (plantError) await damage(largePath, Math.floor(largeBytes / 3))

  const read = stats().readBytes
  using returned = allocateTensor('F32', [largeBytes / Float32Array.BYTES_PER_ELEMENT])
  const back = await progress.step(
    'swap in',
    bytes,
    () => stats().readBytes - read,
    async () => ({ small: await swapInWeights(weights), taken: await swapInLarge(returned, largePath) }),
    ({ small }) => `${small.length + 1} tensors`,
  )

  done = 0
  const compared = await progress.step(
    'compare',
    bytes,
    () => done,
    async () => {
      const found = await compareWeights(weights, back.value.small)
      const difference = await findDifference(source, bytesOf(returned), (comparedBytes) => (done = comparedBytes))
      if (difference !== undefined) found.push(`the large tensor differs from byte ${difference} on`)
      return found
    },
    (found) => (found.length === 0 ? 'every byte is the same' : `${found.length} of ${tensors} tensors DIFFER`),
  )

  return {
    tensors,
    bytes,
    swapOutSeconds: out.seconds,
    swapInSeconds: back.seconds,
    mismatches: compared.value,
    taken: back.value.taken,
    largePath,
    largeCrc32: crc32(source),
  }
}

/**
 * Each small tensor is compared twice: as it came back, and as node:fs reads its file, because
 * node:fs shares no code with deepring.
 */
async function compareWeights(weights: readonly SwappedWeight[], returned: readonly Tensor[]): Promise<string[]> {
  const mismatches: string[] = []
  for (const [index, { weight, path }] of weights.entries()) {
    const label = `${weight.name} (${weight.dtype} [${weight.shape.join(', ')}])`
    const difference = await findDifference(weight.data, bytesOf(returned[index]!))
    if (difference !== undefined) mismatches.push(`${label} differs from byte ${difference} on`)
    const inFile = await findDifference(weight.data, await readFile(path))
    if (inFile !== undefined) mismatches.push(`${label}: its file differs from byte ${inFile} on`)
  }
  return mismatches
}

/** The planted bug: flips one bit, as a failing drive would. */
async function damage(path: string, position: number): Promise<void> {
  const file = await openFile(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, position)
    byte[0]! ^= 1
    await file.write(byte, 0, 1, position)
    await file.sync()
  } finally {
    await file.close()
  }
}

function bytesOf(tensor: Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.data
  return new Uint8Array(buffer, byteOffset, byteLength)
}
