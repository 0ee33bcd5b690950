/**
 * Save, load, swap out, swap in, compare: the part of the demo that must not fail.
 *
 * The bars of the transfers follow `stats()`, deepring's own counters, so they show bytes that
 * the drive has acknowledged.
 */

import { open as openFile, rm } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { stats, type Tensor } from '../../index.ts'
import { saveSafetensors } from '../../lib/safetensors/index.ts'
import type { ComparedModel } from './comparison.ts'
import { findDifference } from './difference.ts'
import type { Model } from './models.ts'
import type { Progress, Step } from './progress.ts'
import { loadModel, swapIn, swapOut, type PathTaken } from './swap.ts'
import { fillWithTiles, tensorsOf, type SourceTensor } from './tiles.ts'
import type { Workspace } from './workspace.ts'

export interface RoundTrip {
  tensors: number
  bytes: number
  saveSeconds: number
  loadSeconds: number
  swapOutSeconds: number
  swapInSeconds: number
  /** One sentence per tensor that came back different; empty if all are the same. */
  mismatches: string[]
  taken: PathTaken
  /** The saved model, left in place for the comparison. */
  model: ComparedModel
}

const read = (): number => stats().readBytes
const written = (): number => stats().writtenBytes

/** What a counter has counted since now. */
function since(counter: () => number): () => number {
  const before = counter()
  return () => counter() - before
}

export async function roundTrip(
  workspace: Workspace,
  progress: Progress,
  models: readonly Model[],
  copies: number,
  plantError: boolean,
): Promise<RoundTrip> {
  const path = workspace.path('model.safetensors')
  const weights = models.flatMap((model) => model.weights)
  const { tensors: source, bytes } = tensorsOf(models, copies)
  const count = source.length

  let done = 0
  const fill = async (): Promise<void> => {
    for (const [index, { data }] of source.entries()) {
      const before = done
      await fillWithTiles(data, weights[index]!.data, (filled) => (done = before + filled))
    }
  }
  await progress.step(
    'tile',
    bytes,
    () => done,
    fill,
    () => `${copies} copies of the weights, every one different`,
  )

  const save = (): Promise<unknown> =>
    saveSafetensors(
      path,
      source.map((tensor) => [tensor.name, tensor] as const),
    )
  const saved = await progress.step(
    'save',
    bytes,
    since(written),
    save,
    () => `${count} tensors as safetensors, flushed`,
  )
  const loaded = await progress.step(
    'load',
    bytes,
    since(read),
    () => loadModel(path),
    ({ tensors }) => `${tensors.size} tensors`,
  )
  const { tensors, taken } = loaded.value
  const inOrder = source.map(({ name }) => tensors.get(name)!)
  const mismatches = (await compare(progress, source, inOrder, bytes)).value

  const paths = source.map((_, index) => workspace.path(`${index}.tensor.swp`))
  const out = await progress.step(
    'swap out',
    bytes,
    since(written),
    () => swapOut(inOrder, paths),
    (operations) => `${operations} tensors`,
  )
  tensors[Symbol.dispose]()
  if (plantError) await damage(paths, source)
  const back = await progress.step(
    'swap in',
    bytes,
    since(read),
    () => swapIn(source, paths),
    (some) => `${some.length} tensors`,
  )
  mismatches.push(...(await compare(progress, source, back.value, bytes)).value)

  // The comparison needs the memory and the drive for itself.
  for (const tensor of back.value) tensor[Symbol.dispose]()
  await Promise.all(paths.map((each) => rm(each)))
  return {
    tensors: count,
    bytes,
    saveSeconds: saved.seconds,
    loadSeconds: loaded.seconds,
    swapOutSeconds: out.seconds,
    swapInSeconds: back.seconds,
    mismatches: [...new Set(mismatches)],
    taken,
    model: { path, bytes, crc32: await checksumOf(path, source) },
  }
}

/** Compares every byte with its source. */
function compare(
  progress: Progress,
  source: readonly SourceTensor[],
  returned: readonly Tensor[],
  bytes: number,
): Promise<Step<string[]>> {
  let done = 0
  const work = async (): Promise<string[]> => {
    const mismatches: string[] = []
    for (const [index, { name, dtype, shape, data }] of source.entries()) {
      const before = done
      const difference = await findDifference(data, bytesOf(returned[index]!), (compared) => (done = before + compared))
      if (difference !== undefined)
        mismatches.push(`${name} (${dtype} [${shape.join(', ')}]) differs from byte ${difference} on`)
      done = before + data.length
    }
    return mismatches
  }
  const summary = (found: string[]): string =>
    found.length === 0 ? 'every byte is the same' : `${found.length} of ${source.length} tensors DIFFER`
  return progress.step('compare', bytes, () => done, work, summary)
}

/** The CRC-32 of the tensors in the order of the file, which its header says, read without deepring. */
async function checksumOf(path: string, source: readonly SourceTensor[]): Promise<number> {
  const file = await openFile(path)
  try {
    const prefix = Buffer.alloc(8)
    await file.read(prefix, 0, prefix.length, 0)
    const json = Buffer.alloc(Number(prefix.readBigUInt64LE()))
    await file.read(json, 0, json.length, prefix.length)
    const header = JSON.parse(json.toString()) as Record<string, { data_offsets: [number, number] }>
    const position = ({ name }: SourceTensor): number => header[name]!.data_offsets[0]
    return source.toSorted((a, b) => position(a) - position(b)).reduce((sum, { data }) => crc32(data, sum), 0)
  } finally {
    await file.close()
  }
}

/** The planted bug: flips one bit of the largest tensor, as a failing drive would. */
async function damage(paths: readonly string[], source: readonly SourceTensor[]): Promise<void> {
  const largest = source.reduce((most, { data }, index) => (data.length > source[most]!.data.length ? index : most), 0)
  const position = Math.floor(source[largest]!.data.length / 3)
  const file = await openFile(paths[largest]!, 'r+')
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
