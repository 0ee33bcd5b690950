/**
 * `deepring convert`.
 *
 * ```text
 *   tensors in the order of the source ──► converted, within a budget of memory ──► files, which get their names at the end
 * ```
 */

import { mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import { writeFile } from '../../index.ts'
import {
  convertTensor,
  SafetensorsWriter,
  type AnyTensor,
  type ConvertedDType,
  type Declaration,
  type TensorInfo,
  type WriterOptions,
} from '../safetensors/index.ts'
import { CONVERTIBLE } from '../safetensors/convert.ts'
import { Refusal } from './failure.ts'
import type { Invocation, Report } from './invocation.ts'
import { withModel, type Model } from './model.ts'
import { bytesText, countText, quotedOf } from './text.ts'

/** Bytes of tensors in memory, if nothing else is said. */
const MEMORY_BYTES = 2 ** 30

/** How wide elements are then. */
const WIDTHS: Readonly<Record<ConvertedDType, number>> = { F32: 4, F16: 2, BF16: 2 }

/** A file that is to be written. */
interface Shard {
  readonly path: string
  readonly tensors: Target[]
  bytes: number
}

/** A tensor as it will be. */
interface Target extends Declaration {
  readonly bytes: number
  readonly converts: boolean
}

/** Writes a model anew. */
export async function convert({ words, options, screen, signal }: Invocation): Promise<Report> {
  const [source = '', target = ''] = words
  const dtype = options.word<ConvertedDType>('dtype')
  const shardBytes = options.size('shards')
  const memory = options.size('memory') ?? MEMORY_BYTES
  return withModel(source, options.count('generation'), signal, async (model) => {
    const { table, safetensors } = model
    const targets = Array.from(table.names(), (name) => targetOf(table.info(name), dtype))
    const writing: WriterOptions = {
      ...(safetensors === undefined ? {} : { metadata: safetensors.metadata }),
      ...(options.has('order') ? { order: options.word('order') } : {}),
      ...(options.has('checksum') ? { checksum: 'crc32c' } : {}),
    }
    const budget = Math.max(memory, table.largest)
    const bar = screen.bar('convert')
    const stream = (each: (tensor: AnyTensor) => Promise<void>): Promise<void> =>
      streamAll(model, budget, signal, each, (bytes) => bar.add(bytes, table.bytes))
    const files =
      shardBytes === undefined
        ? await writeShards([shardOf(target, targets)], writing, signal, stream)
        : await writeModel(target, sharded(target, targets, shardBytes), writing, signal, stream)
    const bytes = targets.reduce((sum, each) => sum + each.bytes, 0)
    const converted = targets.filter(({ converts }) => converts).length
    const of = dtype === undefined ? '' : `, ${converted} converted to ${dtype}`
    return {
      data: { source, target, tensors: targets.length, converted, bytes, files },
      lines: [`${countText(targets.length, 'tensor')}${of}; ${bytesText(bytes)} in ${countText(files.length, 'file')}`],
    }
  })
}

function targetOf({ name, dtype, shape, byteLength }: TensorInfo, wanted: ConvertedDType | undefined): Target {
  const converts = wanted !== undefined && dtype !== wanted && CONVERTIBLE.has(dtype)
  if (!converts) return { name, dtype, shape, bytes: byteLength, converts }
  return {
    name,
    dtype: wanted,
    shape,
    bytes: shape.reduce((product, extent) => product * extent, WIDTHS[wanted]),
    converts,
  }
}

function shardOf(path: string, tensors: Target[]): Shard {
  return { path, tensors, bytes: tensors.reduce((sum, { bytes }) => sum + bytes, 0) }
}

/** Files of at most a size, unless one tensor is larger, under the names that other libraries look for. */
function sharded(directory: string, targets: readonly Target[], bytesMax: number): Shard[] {
  const groups: Target[][] = []
  let size = Infinity
  for (const target of targets) {
    if (size + target.bytes > bytesMax) {
      groups.push([])
      size = 0
    }
    groups.at(-1)?.push(target)
    size += target.bytes
  }
  return groups.map((tensors, nth) => shardOf(join(directory, shardName(nth + 1, groups.length)), tensors))
}

function shardName(number: number, count: number): string {
  const [five, all] = [number, count].map((each) => String(each).padStart(5, '0'))
  return `model-${five}-of-${all}.safetensors`
}

/** Passes all tensors, in the order of the source. */
async function streamAll(
  { table }: Model,
  memory: number,
  signal: AbortSignal,
  each: (tensor: AnyTensor) => Promise<void>,
  onBytes: (bytes: number) => void,
): Promise<void> {
  for await (const tensor of table.stream(undefined, { memory, signal })) {
    await each(tensor)
    onBytes(tensor.byteLength)
  }
}

type Stream = (each: (tensor: AnyTensor) => Promise<void>) => Promise<void>

/** Writes files, all of which get their names when all are complete. */
async function writeShards(
  shards: readonly Shard[],
  options: WriterOptions,
  signal: AbortSignal,
  stream: Stream,
): Promise<string[]> {
  const writers: SafetensorsWriter[] = []
  const places = new Map<string, readonly [writer: SafetensorsWriter, target: Target]>()
  const done: string[] = []
  try {
    for (const { path, tensors } of shards) {
      signal.throwIfAborted()
      // Not aborted: what becomes of a writer that nobody waits for is removed later, and the directory could not be.
      const writer = await SafetensorsWriter.create(path, tensors, options)
      writers.push(writer)
      for (const target of tensors) places.set(target.name, [writer, target])
    }
    await stream(async (tensor) => {
      const [writer, target] = places.get(tensor.name) as readonly [SafetensorsWriter, Target]
      if (!target.converts) return writer.write(tensor.name, tensor.bytes, { signal })
      const converted = await convertTensor(tensor, target.dtype as ConvertedDType, { signal })
      try {
        await writer.write(tensor.name, converted.data, { signal })
      } finally {
        converted[Symbol.dispose]()
      }
    })
    for (const [nth, writer] of writers.entries()) {
      await writer.finish()
      done.push((shards[nth] as Shard).path)
    }
    return done
  } catch (error) {
    for (const writer of writers.slice(done.length)) await writer.abort().catch(() => {})
    if (shards.length > 1) for (const path of done) await rm(path, { force: true })
    throw error
  }
}

/** Writes several files and their index into a directory that has no model yet. */
async function writeModel(
  directory: string,
  shards: readonly Shard[],
  options: WriterOptions,
  signal: AbortSignal,
  stream: Stream,
): Promise<string[]> {
  const made = (await mkdir(directory, { recursive: true })) !== undefined
  const taken = (await readdir(directory)).find((name) => /\.safetensors(?:\.index\.json)?$/.test(name))
  if (taken !== undefined) throw new Refusal(`${quotedOf(directory)} has a model already: ${quotedOf(taken)}`)
  const files: string[] = []
  try {
    files.push(...(await writeShards(shards, options, signal, stream)))
    const map = shards.flatMap(({ path, tensors }) =>
      tensors.map(({ name }): [string, string] => [name, path.slice(directory.length).replace(/^\/+/, '')]),
    )
    const total = shards.reduce((sum, { bytes }) => sum + bytes, 0)
    const index = { metadata: { total_size: total }, weight_map: Object.fromEntries(map) }
    await writeFile(join(directory, 'model.safetensors.index.json'), `${JSON.stringify(index, undefined, 2)}\n`, {
      replace: true,
      signal,
    })
    return files
  } catch (error) {
    for (const path of files) await rm(path, { force: true })
    if (made) await rmdir(directory).catch(() => {})
    throw error
  }
}
