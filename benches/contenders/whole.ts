/** Whole files and streams: deepring's ways, and those of node:fs and dd. */

import { join } from 'node:path'
import type { WholeMethod, WholeParameters } from '../children/parameters.ts'
import { execute, runChild, type Contender } from '../contender.ts'
import type { Outcome } from '../outcome.ts'
import { READ_SEED } from '../scratch.ts'
import type { BenchContext } from '../bench-context.ts'

const METHODS: Readonly<Record<WholeMethod, { name: string; configuration: string }>> = {
  chunks: { name: 'chunks', configuration: 'defaults, each disposed' },
  readStream: { name: 'createReadStream', configuration: 'defaults' },
  fsReadStream: { name: 'fs.createReadStream', configuration: '1M chunks, cold cache' },
  pipeTo: { name: 'pipeTo socket', configuration: 'defaults, read by another process' },
  fsPipe: { name: 'fs stream to socket', configuration: '1M chunks, cold cache' },
  readInto: { name: 'readFile into', configuration: 'touched memory' },
  readFresh: { name: 'readFile', configuration: 'fresh memory' },
  readRaw: { name: 'raw read', configuration: 'touched memory' },
  fsReadFile: { name: 'fs.readFile', configuration: 'cold cache' },
  copy: { name: 'copyFile', configuration: "clone: 'never', durable" },
  fsCopy: { name: 'fs.copyFile', configuration: 'cold cache, then sync' },
  crc32c: { name: 'hashFile crc32c', configuration: 'defaults' },
  sha256: { name: 'hashFile sha256', configuration: 'defaults' },
  hashMemory: { name: 'sha256 of memory', configuration: 'one core, 1M at a time' },
}

/** One way to move `bytes` of the large file. */
export function whole(context: BenchContext, file: string, bytes: number, method: WholeMethod): Contender {
  const copies = method === 'copy' || method === 'fsCopy'
  const run = (to: string): Promise<Outcome> =>
    runChild<WholeParameters>('whole', { method, file, bytes, seed: READ_SEED, source: context.scratch.source, to })
  return { ...METHODS[method], run: () => around(context, file, copies, run) }
}

/** dd with direct I/O on both sides. */
export function dd(context: BenchContext, file: string, bytes: number): Contender {
  const run = async (to: string): Promise<Outcome> => {
    const words = [`if=${file}`, `of=${to}`, 'bs=4M', 'iflag=direct', 'oflag=direct', 'conv=fsync', 'status=none']
    const { stdout } = await execute(context.native.program, ['launch', 'dd', ...words])
    const measured = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Omit<Outcome, 'bytes' | 'operations'>
    return { ...measured, bytes, operations: 1, ran: 'direct' }
  }
  return { name: 'dd', configuration: '4M, direct, fsync', run: () => around(context, file, true, run) }
}

/** A cold file, and a folder for its copy, which is removed. */
async function around(
  { scratch }: BenchContext,
  file: string,
  copies: boolean,
  run: (to: string) => Promise<Outcome>,
): Promise<Outcome> {
  const folder = copies ? scratch.fresh() : null
  try {
    await scratch.evict(file)
    return await run(folder === null ? '' : join(folder, 'copy'))
  } finally {
    if (folder !== null) await scratch.drop(folder)
  }
}
