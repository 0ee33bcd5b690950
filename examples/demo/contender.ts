/**
 * One way to load or save one model, in its own process: `node contender.ts NAME FILE SOURCE` prints one line of JSON, its
 * report or why it failed. Readers load the safetensors file FILE. Writers create it with the tensors of SOURCE.
 *
 * The timed region ends with every tensor in memory and accessible by name (reads) or on the drive (writes, fsync
 * included), because that is what a program waits for. Memory is allocated inside it, because `fs.readFile` always does so.
 * If the name ends in `-reused`, the memory has been allocated and touched before, as in a program that swaps. Readers
 * report the CRC-32 of their bytes, which is computed outside the timed region, because a fast but wrong read does not
 * count.
 */

import { open as openFile, readFile, writeFile } from 'node:fs/promises'
import process from 'node:process'
import { crc32 } from 'node:zlib'
import { allocateUnsafe, DTYPES, stats, type DType } from '../../index.ts'
import { openSafetensors, saveSafetensors } from '../../lib/safetensors/index.ts'
import { measure, type Cost } from './meter.ts'

export type ContenderName =
  | 'deepring-load'
  | 'deepring-load-reused'
  | 'deepring-stream'
  | 'readFile'
  | 'mapped-touched'
  | 'mapped-copied'
  | 'deepring-save'
  | 'writeFile'

/** Those that run here; the others are in `reference/`. */
type Here = Exclude<ContenderName, 'mapped-touched' | 'mapped-copied'>

export interface ContenderReport {
  cost: Cost
  /** CRC-32 of all tensors in the order of the file; 0 for writers. */
  crc32: number
}

export interface ContenderFailure {
  failure: string
}

/** One `read` of node:fs moves at most 2^31 - 1 bytes. */
const FILE_HANDLE_READ_BYTES_MAX = 2 ** 30

/** The timed part. Readers return a function that computes the checksum of what they have loaded. */
type Run = () => Promise<(() => number | Promise<number>) | void>

/** Prepares each contender outside the timed region, and returns its timed part. */
const contenders: Record<Here, (path: string, source: string) => Run | Promise<Run>> = {
  'deepring-load': (path) => async () => {
    await using model = await openSafetensors(path)
    const tensors = await model.load()
    return () => checksumOf(Array.from(tensors.values(), ({ bytes }) => bytes))
  },
  async 'deepring-load-reused'(path) {
    const into = await placesFor(path)
    return async () => {
      await using model = await openSafetensors(path)
      await model.load(undefined, { into })
      return () => checksumOf([...into.values()])
    }
  },
  'deepring-stream': (path) => async () => {
    await using model = await openSafetensors(path)
    let bytes = 0
    for await (const tensor of model.stream()) bytes += tensor.data.byteLength
    if (bytes !== model.bytes) throw new Error(`the stream brought ${bytes} of ${model.bytes} bytes`)
    return () => checksumOfStream(path)
  },
  readFile: (path) => async () => {
    const tensors = parse(await readFile(path))
    return () => checksumOf(tensors.values())
  },
  async 'deepring-save'(path, source) {
    await using model = await openSafetensors(source)
    const tensors = await model.load()
    return async () => void (await saveSafetensors(path, tensors))
  },
  async writeFile(path, source) {
    const bytes = await readWithFileHandle(source)
    return () => writeFile(path, bytes, { flush: true })
  },
}

/** The tensors of a file that is in memory, by name, as programs parse it by hand: nothing is checked. */
function parse(file: Buffer): Map<string, ArrayBufferView> {
  const start = 8 + Number(file.readBigUInt64LE())
  const header = JSON.parse(file.toString('utf8', 8, start)) as Record<
    string,
    { dtype: DType; data_offsets: [number, number] }
  >
  delete header['__metadata__']
  const rows = Object.entries(header).toSorted(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])
  return new Map(
    rows.map(
      ([
        name,
        {
          dtype,
          data_offsets: [first, end],
        },
      ]) => {
        const { View } = DTYPES[dtype]
        const position = file.byteOffset + start + first
        return [name, new View(file.buffer as ArrayBuffer, position, (end - first) / View.BYTES_PER_ELEMENT)]
      },
    ),
  )
}

/** Memory for each tensor that has been touched; in page-aligned memory as far apart as in the file, so nothing is copied. */
async function placesFor(path: string): Promise<Map<string, Uint8Array>> {
  await using model = await openSafetensors(path)
  const infos = Array.from(model.names(), (name) => model.info(name))
  const memory = allocateUnsafe(Math.max(...infos.map(({ position, byteLength }) => position + byteLength))).fill(1)
  return new Map(
    infos.map(({ name, position, byteLength }) => [name, memory.subarray(position, position + byteLength)]),
  )
}

function checksumOf(parts: Iterable<ArrayBufferView>): number {
  let sum = 0
  for (const { buffer, byteOffset, byteLength } of parts)
    sum = crc32(new Uint8Array(buffer, byteOffset, byteLength), sum)
  return sum
}

/** A stream has nothing left at its end, so it is run once more. */
async function checksumOfStream(path: string): Promise<number> {
  await using model = await openSafetensors(path)
  let sum = 0
  for await (const { bytes } of model.stream()) sum = crc32(bytes, sum)
  return sum
}

async function readWithFileHandle(path: string): Promise<Uint8Array> {
  await using handle = await openFile(path, 'r')
  const memory = Buffer.allocUnsafeSlow((await handle.stat()).size)
  for (let position = 0; position < memory.length;) {
    const length = Math.min(memory.length - position, FILE_HANDLE_READ_BYTES_MAX)
    const { bytesRead } = await handle.read(memory, position, length, position)
    if (bytesRead === 0) throw new Error(`${path} ended at ${position}`)
    position += bytesRead
  }
  return memory
}

async function runContender(name: Here, path: string, source: string): Promise<ContenderReport> {
  // Loads the binding and starts the engine, as Node's own start has loaded and started libuv.
  if (name.startsWith('deepring')) stats()
  const run = await contenders[name](path, source)
  const { value: checksum, cost } = await measure(run)
  return { cost, crc32: checksum === undefined ? 0 : await checksum() }
}

const [name, path, source] = process.argv.slice(2)
const report = await runContender(name as Here, path!, source!).catch((error: Error): ContenderFailure => ({
  failure: error.message,
}))
console.log(JSON.stringify(report))
