/**
 * fio with io_uring: what the disk and the kernel can do when only speed matters.
 *
 * fio times its own region (`runtime`; with end_fsync the flush is inside) and reports its own CPU.
 * It runs with the options that make it fast: one thread, fewer clock reads, no scrambling of
 * buffers. fio preallocates a new file before its region begins; deepring does so inside its own.
 * fio writes random bytes.
 */

import { fioRegion, fioVersion } from '../../lib/measure/fio.ts'
import { PAGE_BYTES } from '../../lib/measure/positions.ts'
import { execute } from '../../lib/measure/process.ts'
import type { Reads } from '../children/parameters.ts'
import type { FioState } from '../fio-state.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import type { BenchContext } from '../bench-context.ts'
import { fileEnvironment } from '../run-environment.ts'
import type { Contender, Entry } from '../../lib/measure/rounds.ts'
import { sweep, type Sweep } from '../sweep.ts'
import type { Task } from '../task.ts'

/** Finds out whether fio is installed, and its version. */
export async function findFio(): Promise<FioState> {
  const version = await fioVersion()
  return version === undefined ? { missing: 'fio is not installed (Debian: apt-get install fio)' } : { version }
}

/** fio in the best of these configurations, if it is installed. */
export async function bestFio(
  context: BenchContext,
  task: string,
  candidates: readonly Contender[],
): Promise<{ best: Entry; sweeps: readonly Sweep[] }> {
  if ('missing' in context.fio) return { best: { name: 'fio', missing: context.fio.missing }, sweeps: [] }
  const found = await sweep(`fio ${task}`, candidates, context.showProgress)
  return { best: found.best, sweeps: [found.sweep] }
}

interface Tuning {
  readonly configuration: string
  readonly words: readonly string[]
}

/**
 * Block sizes and depths of the sweep, each plain and with registered memory and batched
 * submission. Without these fio's requests are split small, and it is too slow to be a rival.
 */
const STREAM_TUNINGS: readonly Tuning[] = ['1M', '8M'].flatMap((block) =>
  [8, 32, 128].flatMap((depth) => [
    { configuration: `${block} × ${depth}`, words: [`--bs=${block}`, `--iodepth=${depth}`] },
    {
      configuration: `${block} × ${depth}, fixed buffers, batches`,
      words: [`--bs=${block}`, `--iodepth=${depth}`, '--fixedbufs=1', '--iodepth_batch_submit=32'],
    },
  ]),
)

const RANDOM_TUNINGS: readonly Tuning[] = [
  { configuration: 'plain', words: [] },
  { configuration: 'batches', words: ['--iodepth_batch_submit=32', '--iodepth_batch_complete_max=32'] },
  { configuration: 'fixed buffers and files', words: ['--fixedbufs=1', '--registerfiles=1'] },
  {
    configuration: 'fixed buffers and files, batches',
    words: ['--fixedbufs=1', '--registerfiles=1', '--iodepth_batch_submit=32', '--iodepth_batch_complete_max=32'],
  },
]

/** All configurations of fio that move the one large file. */
export function fioStreamCandidates(context: BenchContext, task: Task, file: string): Contender[] {
  const direction = task === 'read' ? ['--rw=read', '--readonly'] : ['--rw=write']
  const flush = task === 'sync' ? ['--end_fsync=1'] : []
  return streamCandidates(context, task, file, [...direction, ...flush])
}

/** All configurations of fio that read pages of the large file at random. */
export function fioRandomCandidates(context: BenchContext, file: string, { operations, depth }: Reads): Contender[] {
  const inEnvironment = fileEnvironment(context, 'read', file)
  const reads = [
    '--rw=randread',
    '--bs=4k',
    `--iodepth=${depth}`,
    '--readonly',
    '--norandommap=1',
    `--size=${context.bytes}`,
    `--io_size=${operations * PAGE_BYTES}`,
  ]
  return RANDOM_TUNINGS.map(({ configuration, words }) => ({
    name: 'fio',
    configuration: `4K × ${depth}, ${configuration}`,
    run: () => inEnvironment(({ path }) => launch(context, [...words, ...reads, `--filename=${path}`])),
  }))
}

/** All configurations of fio that read the large file and write over it at the same time, and flush at the end. */
export function fioMixedCandidates(context: BenchContext, file: string): Contender[] {
  const mixed = ['--rw=rw', '--rwmixread=50', '--end_fsync=1', `--io_size=${2 * context.bytes}`]
  return streamCandidates(context, 'overwrite', file, mixed)
}

function streamCandidates(context: BenchContext, task: Task, file: string, job: readonly string[]): Contender[] {
  const inEnvironment = fileEnvironment(context, task, file, false)
  return STREAM_TUNINGS.map(({ configuration, words }) => ({
    name: 'fio',
    configuration,
    run: () =>
      inEnvironment(({ path }) => launch(context, [...words, ...job, `--filename=${path}`, `--size=${context.bytes}`])),
  }))
}

async function launch(context: BenchContext, words: readonly string[]): Promise<Outcome> {
  const job = [
    '--name=bench',
    '--thread',
    '--ioengine=io_uring',
    '--direct=1',
    '--gtod_reduce=1',
    '--scramble_buffers=0',
    '--output-format=json',
  ]
  const { stdout, stderr } = await execute(context.native.program, ['launch', 'fio', ...job, ...words])
  const text = stdout.trimEnd()
  const cut = text.lastIndexOf('\n')
  const whole = JSON.parse(text.slice(cut)) as {
    wallSeconds: number
    userSeconds: number
    systemSeconds: number
    busySeconds: number
    peakBytes: number
  }
  const region = fioRegion(text.slice(0, cut))
  if (region === undefined) throw new Error(`fio failed: ${stderr.trim().split('\n')[0] ?? 'it gave no reason'}`)
  const { userSeconds, systemSeconds } = region
  // The machine's busy time covers the whole run of fio. The CPU that fio used outside its region,
  // mostly to fill buffers, is the total of the process less that of the region. It is subtracted.
  const setUpSeconds = Math.max(0, whole.userSeconds + whole.systemSeconds - userSeconds - systemSeconds)
  return {
    ...region,
    busySeconds: Math.max(0, whole.busySeconds - setUpSeconds),
    busyWindowSeconds: whole.wallSeconds,
    peakBytes: whole.peakBytes,
    ran: 'io_uring, direct',
  }
}
