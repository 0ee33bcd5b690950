/**
 * `store`: objects through the crate `object_store`, from Rust: the crate `deepring-object-store` beside `LocalFileSystem` of
 * version 0.14, its best. Cold, but for the ranges that say otherwise. Puts are flushed.
 */

import { ratioFigure, outcomeFigure, type Figure } from '../figure.ts'
import { comparison, runRounds, type Comparison, type Contender } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'

const ORDER = 11
const STORES_COMPARED = ['deepring', 'local'] as const
type Store = (typeof STORES_COMPARED)[number]

interface Read {
  readonly name: string
  readonly kind: 'ranges' | 'range' | 'stream' | 'whole'
  readonly count: number
  readonly length: number
  readonly warm?: boolean
  /** The file is no larger than this. */
  readonly bytes?: number
  readonly floor: number
  /** At most this share of the rival's CPU. */
  readonly cpu?: number
}

const READS: readonly Read[] = [
  { name: 'ranges-4k', kind: 'ranges', count: 16_384, length: 4096, floor: 2.5, cpu: 1 / 3 },
  { name: 'ranges-16k', kind: 'ranges', count: 4096, length: 16 << 10, floor: 2.5, cpu: 1 / 3 },
  { name: 'ranges-128k', kind: 'ranges', count: 2048, length: 128 << 10, floor: 2.5, cpu: 1 / 3 },
  { name: 'ranges-1m', kind: 'ranges', count: 512, length: 1 << 20, floor: 2.5, cpu: 1 / 3 },
  { name: 'ranges-8m', kind: 'ranges', count: 64, length: 8 << 20, floor: 2.5, cpu: 1 / 3 },
  { name: 'range-tasks', kind: 'range', count: 2048, length: 128 << 10, floor: 2 },
  { name: 'stream', kind: 'stream', count: 1, length: 4096, floor: 4 },
  { name: 'whole', kind: 'whole', count: 1, length: 4096, bytes: 64 << 20, floor: 2 },
  { name: 'ranges-4k-warm', kind: 'ranges', count: 16_384, length: 4096, warm: true, floor: 0.9 },
  { name: 'ranges-128k-warm', kind: 'ranges', count: 2048, length: 128 << 10, warm: true, floor: 0.9 },
  { name: 'ranges-1m-warm', kind: 'ranges', count: 512, length: 1 << 20, warm: true, floor: 0.9 },
]

interface Write {
  readonly name: string
  readonly kind: 'put' | 'multipart'
  readonly count: number
  readonly length: number
  readonly floor: number
}

const WRITES: readonly Write[] = [
  { name: 'put-64m', kind: 'put', count: 8, length: 64 << 20, floor: 1.25 },
  { name: 'put-64k', kind: 'put', count: 256, length: 64 << 10, floor: 1 },
  { name: 'multipart-16m', kind: 'multipart', count: 32, length: 16 << 20, floor: 1 },
]

/** What is between ranges that are merged, and what widens them, in bytes read for each that was asked for. */
const OVERREAD_MAX = 1.05

/** The benchmarks. */
export const STORES: readonly Benchmark[] = [
  { name: 'store-read', run: runReads },
  { name: 'store-put', run: runWrites },
]

async function runReads(context: BenchContext): Promise<Result> {
  const { native, scratch, showProgress, rounds } = context
  const groups = new Map<Read, Comparison>()
  for (const read of READS) {
    const bytes = Math.min(read.bytes ?? Infinity, context.bytes)
    const name = bytes === context.bytes ? 'read' : `read-${bytes}`
    // oxlint-disable-next-line no-await-in-loop -- each is written once, and not beside another
    const file = await scratch.file(name, bytes)
    const inEnvironment = fileEnvironment(context, 'read', file)
    const { kind, count, length } = read
    const contender = (store: Store): Contender => ({
      name: store,
      configuration: `${read.name}: ${count} × ${length} B`,
      run: () =>
        inEnvironment(async ({ path, seed }) => {
          if (read.warm === true) await native.run('warm', { path, stretch: 16 << 20, step: 1 })
          const { source } = scratch
          return native.measure('store-read', {
            store,
            kind,
            count,
            length,
            file: path,
            bytes,
            order: ORDER,
            seed,
            source,
          })
        }),
    })
    groups.set(read, comparison(STORES_COMPARED.map(contender)))
  }
  await runRounds([...groups.values()], rounds, showProgress)
  const figures = [...groups].flatMap(([read, group]): readonly Figure[] => {
    const compared = { of: 'deepring', against: 'local' } as const
    const name = `store-${read.name}`
    const speed = ratioFigure(group, { ...compared, name, metric: 'speed', floor: read.floor })
    if (read.cpu === undefined) return [speed]
    return [
      speed,
      ratioFigure(group, { ...compared, name: `${name}-cpu`, metric: 'cpu', ceiling: read.cpu }),
      outcomeFigure(
        `${name}-overread`,
        group,
        'deepring',
        'bytes read from the drive / bytes asked for',
        'x',
        read.length >= 128 << 10 ? { ceiling: OVERREAD_MAX } : {},
        ({ extra }) => extra?.['overread'],
      ),
    ]
  })
  return {
    name: 'store-read',
    title: 'Reading objects: ranges in one call, ranges one by one, streams',
    scale: 'bytes',
    sweeps: [],
    comparisons: [...groups.values()],
    figures,
  }
}

async function runWrites(context: BenchContext): Promise<Result> {
  const { native, scratch, showProgress, rounds } = context
  const groups = WRITES.map((write) => {
    const { kind, count, length } = write
    const contender = (store: Store): Contender => ({
      name: store,
      configuration: `${write.name}: ${count} × ${length} B, flushed`,
      run: () =>
        scratch.inFresh((folder) =>
          native.measure('store-write', {
            store,
            kind,
            durable: 'yes',
            count,
            length,
            folder,
            seed: scratch.nextSeed(),
            source: scratch.source,
          }),
        ),
    })
    return comparison(STORES_COMPARED.map(contender))
  })
  await runRounds(groups, rounds, showProgress)
  return {
    name: 'store-put',
    title: 'Putting objects, flushed',
    scale: 'bytes',
    sweeps: [],
    comparisons: groups,
    figures: groups.map((group, index) => {
      const { name, floor } = WRITES[index]!
      return ratioFigure(group, { name: `store-${name}`, of: 'deepring', against: 'local', metric: 'speed', floor })
    }),
  }
}
