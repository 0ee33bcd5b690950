/** Whole files and streams: deepring's ways, and those of node:fs and dd. */

import { execute } from '../../lib/measure/process.ts'
import type { Contender } from '../../lib/measure/rounds.ts'
import { join } from 'node:path'
import type { WholeMethod, WholeParameters } from '../children/parameters.ts'
import { runChild } from '../contender.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import { READ_SEED } from '../scratch.ts'
import type { BenchContext } from '../bench-context.ts'

const METHODS: Readonly<Record<WholeMethod, { name: string; configuration: string }>> = {
  chunks: { name: 'chunks', configuration: 'defaults, each disposed' },
  readStream: { name: 'createReadStream', configuration: 'defaults' },
  fsReadStream: { name: 'fs.createReadStream', configuration: '1M chunks, cold cache' },
  pipeTo: { name: 'pipeTo socket', configuration: 'defaults, read by another process' },
  fsPipe: { name: 'fs stream to socket', configuration: '1M chunks, cold cache' },
  memoryToSocket: { name: 'memory to socket', configuration: '1M writes, read by another process' },
  readInto: { name: 'readFile into', configuration: 'touched memory' },
  readFresh: { name: 'readFile', configuration: 'fresh memory' },
  readRaw: { name: 'raw read', configuration: 'touched memory' },
  fsReadFile: { name: 'fs.readFile', configuration: 'cold cache' },
  copy: { name: 'copyFile', configuration: "clone: 'never', durable" },
  fsCopy: { name: 'fs.copyFile', configuration: 'cold cache, then sync' },
  crc32c: { name: 'hashFile crc32c', configuration: 'defaults' },
  sha256: { name: 'hashFile sha256', configuration: 'defaults' },
  hashMemory: { name: 'sha256 of memory', configuration: 'one core, 1M at a time' },
  hashFresh: { name: 'sha256 of fresh memory', configuration: 'one core, what was read before' },
}

/** One way to move `bytes` of the large file. */
export function whole(context: BenchContext, file: string, bytes: number, method: WholeMethod): Contender {
  const run = (to: string): Promise<Outcome> =>
    runChild<WholeParameters>('whole', { method, file, bytes, seed: READ_SEED, source: context.scratch.source, to })
  const copies = method === 'copy' || method === 'fsCopy'
  return { ...METHODS[method], run: copies ? copying(context, file, bytes, run) : reading(context, file, run) }
}

/** dd with direct I/O on both sides. */
export function dd(context: BenchContext, file: string, bytes: number): Contender {
  const run = async (to: string): Promise<Outcome> => {
    const words = [`if=${file}`, `of=${to}`, 'bs=4M', 'iflag=direct', 'oflag=direct', 'conv=fsync', 'status=none']
    const { stdout } = await execute(context.native.program, ['launch', 'dd', ...words])
    const measured = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Omit<Outcome, 'bytes' | 'operations'>
    return { ...measured, bytes, operations: 1, ran: 'direct' }
  }
  return { name: 'dd', configuration: '4M, direct, fsync', run: copying(context, file, bytes, run) }
}

type Run = (to: string) => Promise<Outcome>

/** With a cold file. */
function reading({ scratch }: BenchContext, file: string, run: Run): Contender['run'] {
  return async () => {
    await scratch.evict(file)
    return run('')
  }
}

/** With a cold file, into a new folder. The first copy is compared with what should be there. */
function copying({ native, scratch }: BenchContext, file: string, bytes: number, run: Run): Contender['run'] {
  let isVerified = false
  return () =>
    scratch.inFresh(async (folder) => {
      const to = join(folder, 'copy')
      await scratch.evict(file)
      const outcome = await run(to)
      if (!isVerified)
        await native.run('verify', { many: 'no', file: to, bytes, seed: READ_SEED, source: scratch.source })
      isVerified = true
      return outcome
    })
}
