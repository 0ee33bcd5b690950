/**
 * `whole`: whole files and streams against what Node programs do today.
 *
 * | benchmark | compared with |
 * |---|---|
 * | streams | fio's best read; `fs.createReadStream` with chunks of 1 MiB; the same into a socket |
 * | read | `fs.readFile`, of the most bytes that it takes; of more, one read into touched memory |
 * | copy | `fs.copyFile` and a sync; dd with direct I/O |
 * | hash | fio's best read; what one core hashes, of a piece in its cache and of bytes that have just been read |
 *
 * Streams and hashes are those of the large file. What is read and copied as a whole has sizes of its own.
 */

import { bestFio, fioStreamCandidates } from '../contenders/fio.ts'
import { warmed } from '../contenders/warm.ts'
import { dd, whole } from '../contenders/whole.ts'
import { figure, ratioFigure, type Bar, type Figure } from '../figure.ts'
import { cpuSeconds, type Outcome } from '../../lib/measure/outcome.ts'
import { comparison, runRounds, type Comparison } from '../../lib/measure/rounds.ts'
import type { BenchContext, Benchmark, Result } from '../bench-context.ts'
import type { Sweep } from '../sweep.ts'

const FIO_FLOOR = 0.9
const CHUNKS_CPU_CEILING = 0.15
const STREAM_CPU_CEILING = 0.55
const INTO_CPU_CEILING = 0.2
const FRESH_CPU_CEILING = 0.5
const RAW_FLOOR = 0.95
const NODE_COPY_FLOOR = 1.3
const DD_FLOOR = 1
const HASH_FLOOR = 0.9

/** `fs.readFile` refuses one byte more. */
const NODE_BYTES_MAX = 2 ** 31 - 1

/** More than `fs.readFile` takes. */
const READ_BYTES = 2.5 * 2 ** 30

/** More than the write caches of drives hold. */
const COPY_BYTES = 4 * 2 ** 30

/** The four benchmarks. */
export const WHOLES: readonly Benchmark[] = [
  { name: 'whole-streams', run: streams },
  { name: 'whole-read', ownBytes: READ_BYTES + NODE_BYTES_MAX, run: read },
  { name: 'whole-copy', ownBytes: 2 * COPY_BYTES, run: copy },
  { name: 'whole-hash', run: hash },
]

async function streams(context: BenchContext): Promise<Result> {
  const { bytes } = context
  const file = await context.scratch.file('read', bytes)
  const fio = await bestFio(context, 'read', fioStreamCandidates(context, 'read', file))
  const chunks = whole(context, file, bytes, 'chunks')
  const [stream, node] = [whole(context, file, bytes, 'readStream'), whole(context, file, bytes, 'fsReadStream')]
  const disk = comparison([fio.best, chunks])
  const cpu = comparison([chunks, node, stream])
  const [pipe, memory] = [whole(context, file, bytes, 'pipeTo'), whole(context, file, bytes, 'memoryToSocket')]
  const sockets = comparison([fio.best, node, pipe, memory, whole(context, file, bytes, 'fsPipe')])
  return run(context, 'whole-streams', 'Streaming one large file', fio.sweeps, [disk, cpu, sockets], () => [
    ratioFigure(disk, { name: 'whole-chunks-vs-fio', of: 'chunks', against: 'fio', metric: 'speed', floor: FIO_FLOOR }),
    ratioFigure(cpu, {
      name: 'whole-chunks-cpu-vs-fs',
      of: 'chunks',
      against: node.name,
      metric: 'cpu',
      ceiling: CHUNKS_CPU_CEILING,
    }),
    ratioFigure(cpu, {
      name: 'whole-stream-cpu-vs-fs',
      of: stream.name,
      against: node.name,
      metric: 'cpu',
      ceiling: STREAM_CPU_CEILING,
    }),
    ratioFigure(cpu, { name: 'whole-stream-vs-fs', of: stream.name, against: node.name, metric: 'speed' }),
    ratioFigure(sockets, {
      name: 'whole-pipe-vs-fio',
      of: pipe.name,
      against: 'fio',
      metric: 'speed',
      floor: FIO_FLOOR,
    }),
    readingCpu(sockets, pipe.name, memory.name, node.name),
    ratioFigure(sockets, {
      name: 'whole-pipe-vs-fs',
      of: 'pipeTo socket',
      against: 'fs stream to socket',
      metric: 'speed',
    }),
    slower('whole-pipe-vs-slower', sockets, pipe.name, ['fio', memory.name], {}),
    ratioFigure(sockets, {
      name: 'whole-pipe-cpu-vs-fs',
      of: 'pipeTo socket',
      against: 'fs stream to socket',
      metric: 'cpu',
    }),
  ])
}

async function read(context: BenchContext): Promise<Result> {
  const below = await context.scratch.file('whole-below', NODE_BYTES_MAX)
  const [into, fresh, node] = (['readInto', 'readFresh', 'fsReadFile'] as const).map((method) =>
    warmed(context, whole(context, below, NODE_BYTES_MAX, method), NODE_BYTES_MAX),
  )
  const againstNode = comparison([into!, node!, fresh!])
  const file = await context.scratch.file('whole-read', READ_BYTES)
  const [large, raw] = (['readInto', 'readRaw'] as const).map((method) =>
    warmed(context, whole(context, file, READ_BYTES, method), READ_BYTES),
  )
  const againstRaw = comparison([large!, raw!])
  const of = 'readFile into'
  return run(context, 'whole-read', 'Reading a whole file', [], [againstNode, againstRaw], () => [
    ratioFigure(againstNode, {
      name: 'whole-read-into-cpu-vs-fs',
      of,
      against: 'fs.readFile',
      metric: 'cpu',
      ceiling: INTO_CPU_CEILING,
    }),
    ratioFigure(againstNode, {
      name: 'whole-read-fresh-cpu-vs-fs',
      of: 'readFile',
      against: 'fs.readFile',
      metric: 'cpu',
      ceiling: FRESH_CPU_CEILING,
    }),
    ...[of, 'readFile'].map((name) =>
      ratioFigure(againstNode, {
        name: name === of ? 'whole-read-into-vs-fs' : 'whole-read-fresh-vs-fs',
        of: name,
        against: 'fs.readFile',
        metric: 'speed',
        floor: 1,
        exclusive: true,
      }),
    ),
    ratioFigure(againstRaw, { name: 'whole-read-vs-raw', of, against: 'raw read', metric: 'speed', floor: RAW_FLOOR }),
  ])
}

async function copy(context: BenchContext): Promise<Result> {
  const file = await context.scratch.file('whole-copy', COPY_BYTES)
  const group = comparison([
    whole(context, file, COPY_BYTES, 'fsCopy'),
    whole(context, file, COPY_BYTES, 'copy'),
    dd(context, file, COPY_BYTES),
  ])
  const speed = { of: 'copyFile', metric: 'speed' } as const
  return run(context, 'whole-copy', 'Copying one large file', [], [group], () => [
    ratioFigure(group, { name: 'whole-copy-vs-fs', ...speed, against: 'fs.copyFile', floor: NODE_COPY_FLOOR }),
    ratioFigure(group, { name: 'whole-copy-vs-dd', ...speed, against: 'dd', floor: DD_FLOOR }),
    ratioFigure(group, { name: 'whole-copy-cpu-vs-fs', of: 'copyFile', metric: 'cpu', against: 'fs.copyFile' }),
  ])
}

async function hash(context: BenchContext): Promise<Result> {
  const { bytes } = context
  const file = await context.scratch.file('read', bytes)
  const fio = await bestFio(context, 'read', fioStreamCandidates(context, 'read', file))
  const [sum, digest, memory, fresh] = (['crc32c', 'sha256', 'hashMemory', 'hashFresh'] as const).map((method) =>
    whole(context, file, bytes, method),
  )
  const group = comparison([sum!, fio.best, digest!, memory!, fresh!])
  return run(context, 'whole-hash', 'Hashing one large file', fio.sweeps, [group], () => [
    ratioFigure(group, {
      name: 'whole-crc32c-vs-fio',
      of: sum!.name,
      against: 'fio',
      metric: 'speed',
      floor: HASH_FLOOR,
    }),
    slower('whole-sha256-vs-slower', group, digest!.name, ['fio', memory!.name], { floor: HASH_FLOOR }),
    slower('whole-sha256-vs-fresh', group, digest!.name, ['fio', fresh!.name], {}),
  ])
}

function rate({ bytes, wallSeconds }: Outcome): number {
  return bytes / wallSeconds
}

/** The speed of a way, against the slower of what brings the bytes and what takes them. */
function slower(
  name: string,
  group: Comparison,
  of: string,
  [one, other]: readonly [string, string],
  bar: Bar,
): Figure {
  const values = group.rounds.flatMap((round) => {
    const [mine, first, second] = [round.get(of), round.get(one), round.get(other)]
    if (mine === undefined || first === undefined || second === undefined) return []
    return [rate(mine) / Math.min(rate(first), rate(second))]
  })
  return figure(
    name,
    `speed of ${of} / the slower of ${one} and ${other}`,
    'x',
    bar,
    values,
    missing(group, [of, one, other]),
  )
}

/** What reading costs a pipe: its CPU without that of the socket, against a stream that goes nowhere. */
function readingCpu(group: Comparison, of: string, socket: string, stream: string): Figure {
  const values = group.rounds.flatMap((round) => {
    const [mine, sent, taken] = [round.get(of), round.get(socket), round.get(stream)]
    if (mine === undefined || sent === undefined || taken === undefined) return []
    return [(cpuSeconds(mine) - cpuSeconds(sent)) / cpuSeconds(taken)]
  })
  const meaning = `CPU of ${of} beyond that of ${socket} / CPU of ${stream}`
  return figure(
    'whole-pipe-cpu',
    meaning,
    'x',
    { ceiling: CHUNKS_CPU_CEILING },
    values,
    missing(group, [of, socket, stream]),
  )
}

function missing(group: Comparison, names: readonly string[]): string | undefined {
  return names.map((name) => group.missing.get(name)).find((why) => why !== undefined)
}

async function run(
  context: BenchContext,
  name: string,
  title: string,
  sweeps: readonly Sweep[],
  comparisons: readonly Comparison[],
  figures: () => readonly Figure[],
): Promise<Result> {
  await runRounds(comparisons, context.rounds, context.showProgress)
  return { name, title, scale: 'bytes', sweeps, comparisons, figures: figures() }
}
