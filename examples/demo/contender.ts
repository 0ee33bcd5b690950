/**
 * One way to move one large file, in its own process: `node contender.ts NAME FILE BYTES SOURCE`
 * prints one line of JSON, its report or why it failed. Readers read FILE. Writers create it with
 * the content of SOURCE.
 *
 * The timed region ends with the bytes in memory (reads) or on the drive (writes, fsync included),
 * because that is what a program waits for. Memory is allocated inside it, because `fs.readFile`
 * always does so. If the name ends in `-reused`, the memory has been allocated and touched before,
 * as in a program that swaps. Readers report the CRC-32 of their bytes, which is computed outside
 * the timed region, because a fast but wrong read does not count.
 */

import { open as openFile, readFile, writeFile } from 'node:fs/promises'
import process from 'node:process'
import { crc32 } from 'node:zlib'
import { allocateUnsafe, open, stats } from '../../index.ts'
import { measure, type Cost } from './meter.ts'

export type ContenderName =
  | 'deepring-read'
  | 'deepring-read-reused'
  | 'readFile'
  | 'fileHandles'
  | 'fileHandles-reused'
  | 'deepring-write'
  | 'writeFile'

export interface ContenderReport {
  cost: Cost
  /** CRC-32 of the bytes read; 0 for writers. */
  crc32: number
}

export interface ContenderFailure {
  failure: string
}

/** As many as libuv has threads: with more handles the rest would wait in its queue. */
const FILE_HANDLES = 4

/** One `read` of node:fs moves at most 2^31 - 1 bytes. */
const FILE_HANDLE_READ_BYTES_MAX = 2 ** 30

/** The timed part. Readers return the memory that holds the bytes. */
type Run = () => Promise<Uint8Array | void>

/** Prepares each contender outside the timed region, and returns its timed part. */
const contenders: Record<ContenderName, (path: string, bytes: number, sourcePath: string) => Run | Promise<Run>> = {
  'deepring-read': (path, bytes) => () => readWithDeepring(path, allocateUnsafe(bytes)),
  'deepring-read-reused'(path, bytes) {
    const memory = allocateUnsafe(bytes).fill(1)
    return () => readWithDeepring(path, memory)
  },
  readFile: (path) => () => readFile(path),
  fileHandles: (path, bytes) => () => readWithFileHandles(path, Buffer.allocUnsafeSlow(bytes)),
  'fileHandles-reused'(path, bytes) {
    const memory = Buffer.alloc(bytes, 1)
    return () => readWithFileHandles(path, memory)
  },
  async 'deepring-write'(path, bytes, sourcePath) {
    const source = await readWithDeepring(sourcePath, allocateUnsafe(bytes))
    return async () => {
      await using file = await open(path, 'w')
      await file.write(source, { position: 0 })
      await file.sync()
    }
  },
  async writeFile(path, bytes, sourcePath) {
    const source = await readWithFileHandles(sourcePath, Buffer.allocUnsafeSlow(bytes))
    return () => writeFile(path, source, { flush: true })
  },
}

async function readWithDeepring(path: string, memory: Uint8Array): Promise<Uint8Array> {
  await using file = await open(path, 'r')
  await file.read(memory, { position: 0, exact: true })
  return memory
}

/** Each handle reads its share, all at the same time. */
async function readWithFileHandles(path: string, memory: Uint8Array): Promise<Uint8Array> {
  const shareBytes = Math.ceil(memory.length / FILE_HANDLES)
  const readShare = async (_: unknown, index: number): Promise<void> => {
    await using handle = await openFile(path, 'r')
    let position = index * shareBytes
    const end = Math.min(position + shareBytes, memory.length)
    while (position < end) {
      const length = Math.min(end - position, FILE_HANDLE_READ_BYTES_MAX)
      const { bytesRead } = await handle.read(memory, position, length, position)
      if (bytesRead === 0) throw new Error(`${path} ended at ${position}`)
      position += bytesRead
    }
  }
  await Promise.all(Array.from({ length: FILE_HANDLES }, readShare))
  return memory
}

async function runContender(
  name: ContenderName,
  path: string,
  bytes: number,
  sourcePath: string,
): Promise<ContenderReport> {
  // Loads the binding and starts the engine, as Node's own start has loaded and started libuv.
  if (name.startsWith('deepring')) stats()
  const run = await contenders[name](path, bytes, sourcePath)
  const { value, cost } = await measure(run)
  if (!(value instanceof Uint8Array)) return { cost, crc32: 0 }
  if (value.length !== bytes) throw new Error(`${name} read ${value.length} of ${bytes} bytes`)
  return { cost, crc32: crc32(value) }
}

const [name, path, bytes, sourcePath] = process.argv.slice(2)
const report = await runContender(name as ContenderName, path!, Number(bytes), sourcePath!).catch(
  (error: Error): ContenderFailure => ({ failure: error.message }),
)
console.log(JSON.stringify(report))
