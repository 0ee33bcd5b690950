/** Documents of verbs, of machines that there are not: for pages. */

import * as fc from 'fast-check'
import type { BenchDocument } from '../lib/command/bench/document.ts'
import type { Percentile, Rate, Rival, TaskFigures } from '../lib/command/bench/figures.ts'
import { PERCENTS, TASKS, type Task } from '../lib/command/bench/tasks.ts'
import type { WindowSample } from '../lib/command/bench/window.ts'
import type { Machine } from '../lib/command/machine.ts'
import type { TuneDocument } from '../lib/command/tune/document.ts'

/** Names that a page must not take for its own. */
const name = fc.oneof(
  fc.constantFrom(
    '/mnt/nvme',
    '</script><script>alert(1)</script>',
    '"><img src=x onerror=alert(1)>',
    'a&amp;b',
    `/${'very-long-'.repeat(30)}`,
    'left\u202eright',
    'line\nfeed',
    'Größe 測試',
  ),
  fc.string({ maxLength: 60 }),
)

/** Between two powers of ten, each power as likely as any other. */
function magnitude(low: number, high: number): fc.Arbitrary<number> {
  return fc.double({ min: low, max: high, noNaN: true }).map((power) => 10 ** power)
}

const rate: fc.Arbitrary<Rate> = fc
  .record({
    rounds: fc.array(fc.double({ min: 0.5, max: 2, noNaN: true }), { minLength: 1, maxLength: 9 }),
    size: magnitude(-4, 4),
  })
  .map(({ rounds, size }) => {
    const sorted = rounds.map((round) => round * size).toSorted((a, b) => a - b)
    const [lower = 0, upper = 0] = [sorted[0], sorted.at(-1)]
    const median = sorted[Math.floor(sorted.length / 2)] as number
    return { median, lower, upper, confidence: 0.97, warmUp: lower, rounds: sorted }
  })

const rivals: fc.Arbitrary<Rival[]> = fc
  .record({
    names: fc.subarray(['fio', 'node:fs']),
    rates: fc.array(rate, { minLength: 2, maxLength: 2 }),
    cpu: magnitude(-4, 2),
    share: magnitude(-2, 2),
  })
  .map(({ names, rates, cpu, share }) =>
    names.map((rival, nth): Rival => ({ name: rival, rate: rates[nth] as Rate, cpuSecondsPerGB: cpu, share })),
  )

const percentiles: fc.Arbitrary<Percentile[]> = fc
  .record({
    count: fc.integer({ min: 0, max: PERCENTS.length }),
    first: magnitude(0, 4),
    steps: fc.array(magnitude(0, 1), { minLength: PERCENTS.length, maxLength: PERCENTS.length }),
  })
  .map(({ count, first, steps }) => {
    let us = first
    return PERCENTS.slice(0, count).map((percent, nth) => {
      us *= steps[nth] as number
      return { percent, us }
    })
  })

function figures(task: Task): fc.Arbitrary<TaskFigures> {
  return fc
    .record({ rate, rivals, percentiles, cpuSecondsPerGB: magnitude(-4, 2) })
    .map((drawn) => figuresIn(task, drawn))
}

type Drawn = Pick<TaskFigures, 'rate' | 'rivals' | 'cpuSecondsPerGB'> & { readonly percentiles: readonly Percentile[] }

function figuresIn({ name: task, what, unit, depth }: Task, { percentiles: found, ...drawn }: Drawn): TaskFigures {
  const us = (percent: number): number => found.find((row) => row.percent === percent)?.us ?? 1
  const fio = drawn.rivals.find((rival) => rival.name === 'fio')
  const hasLatency = unit === 'k/s' && found.length > 0
  return {
    name: task,
    what,
    unit,
    ...(depth === undefined ? {} : { depth }),
    ran: 'uring, direct',
    ...drawn,
    ...(hasLatency ? { p50Us: us(50), p99Us: us(99), p999Us: us(99.9), percentiles: found } : {}),
    ...(fio === undefined ? {} : { fio: fio.rate.median, shareOfFio: fio.share }),
  }
}

const windowBytes = fc.integer({ min: 16, max: 30 }).map((power) => 2 ** power)

const window: fc.Arbitrary<WindowSample[]> = fc
  .array(
    fc.record({
      seconds: magnitude(-1, 2),
      readBytes: windowBytes,
      readSharedBytes: windowBytes,
      writeBytes: windowBytes,
      writeSharedBytes: windowBytes,
    }),
    { maxLength: 60 },
  )
  .map((samples) => samples.toSorted((a, b) => a.seconds - b.seconds))

const PROFILE = {
  device: 'nvme0n1 serial',
  path: '/root/.config/deepring/nvme0n1.profile',
  used: false,
  reason: 'there is none',
}

/** What `info` finds. */
export const machines: fc.Arbitrary<Machine> = fc
  .record({
    path: name,
    device: name,
    processor: name,
    fileSystem: name,
    model: name,
    direct: fc.boolean(),
    backend: fc.constantFrom('uring', 'threads', 'node'),
  })
  .map(({ path, device, processor, fileSystem, model, direct, backend }): Machine => {
    const sizes = { bytes: 64 << 20, sharedBytes: 8 << 20, blocks: 128 }
    return {
      version: '0.1.0',
      libc: 'glibc 2.17',
      profile: PROFILE,
      backend,
      reason: 'the default seccomp profile of Docker refuses io_uring; run with a profile that allows it',
      kernel: '6.1.0-18-amd64',
      flags: ['CLAMP', 'SUBMIT_ALL'],
      ringEntries: 1024,
      memlockBytes: -1,
      hugePages: 'never',
      queueDepth: 128,
      blockSize: 4 << 20,
      inFlightBytes: 256 << 20,
      window: 'auto',
      maxQueued: 2 ** 20,
      threads: 8,
      path: {
        path,
        device,
        deviceRequests: 256,
        queueDepth: 128,
        window: { device, read: sizes, write: sizes },
        profile: PROFILE,
        fileSystem,
        direct,
        directReason: direct ? 'statx' : 'statx reports no direct I/O support for this file',
        offsetAlignment: 512,
        memoryAlignment: 4,
        locks: true,
        locksReason: 'open-file-description locks',
      },
      container: { seccomp: 'filter', memoryMaxBytes: 2 ** 32, cpus: 1.5, io: ['259:0 rbps=1048576'] },
      deviceQueue: {
        name: device,
        model,
        requests: '256',
        largestRequestKiB: '1280',
        scheduler: '[none] mq-deadline',
        rotational: '1',
      },
      host: { processor, processors: 2, memoryBytes: 2 ** 34, node: 'v24.0.0', platform: 'linux', architecture: 'x64' },
    }
  })

/** What `bench` finds: any of the tasks, with any of the rivals. */
export const benches: fc.Arbitrary<BenchDocument> = fc
  .record({
    machine: machines,
    tasks: fc.subarray([...TASKS], { minLength: 1 }).chain((tasks) => fc.tuple(...tasks.map(figures))),
    notes: fc.array(name, { maxLength: 3 }),
    folder: name,
    window,
  })
  .map(({ machine, tasks, notes, folder, window: samples }) => ({
    measuredAt: '2026-02-03T04:05:06.000Z',
    seconds: 61,
    folder,
    fileSystem: 'ext4',
    device: 'nvme0n1',
    deviceId: 'nvme0n1 serial',
    inMemory: false,
    backend: 'uring',
    kernel: '6.1.0-18-amd64',
    version: '0.1.0',
    usesProfile: false,
    ioBytes: 2 ** 30,
    loops: 6,
    idleNoise: 0.01,
    fio: 'fio-3.33',
    handle: null,
    ok: true,
    notes,
    tasks,
    window: samples,
    machine,
    comparison: null,
    saved: null,
  }))

const cells = (size: fc.Arbitrary<number>): fc.Arbitrary<TuneDocument['read']['grid']['windows']> =>
  fc
    .uniqueArray(fc.record({ size, rate, share: magnitude(-2, 0), rounds: fc.integer({ min: 3, max: 24 }) }), {
      minLength: 1,
      maxLength: 9,
      selector: (cell) => cell.size,
    })
    .map((found) =>
      found.map(({ size: each, rate: { median, lower, upper }, share, rounds }) => {
        return { size: each, rate: median, lower, upper, share, rounds }
      }),
    )

const depth = fc.integer({ min: 3, max: 10 }).map((power) => 2 ** power)

const tuned: fc.Arbitrary<TuneDocument['read']> = fc
  .record({
    windows: cells(windowBytes),
    blocks: cells(windowBytes),
    small: cells(depth),
    nth: fc.nat({ max: 8 }),
    steps: fc.array(fc.record({ seconds: magnitude(-1, 1), windowBytes }), { maxLength: 30 }),
    share: magnitude(-1, 0),
  })
  .map(({ windows, blocks, small, nth, steps, share }) => {
    const chosen = (of: typeof windows): number => of[nth % of.length]?.size ?? 0
    return {
      windowBytes: chosen(windows),
      sharedBytes: chosen(windows),
      blockBytes: chosen(blocks),
      blocks: chosen(small),
      gigabytesPerSecond: 2.5,
      requestsPerSecond: 150_000,
      confidence: 0.97,
      shareOfBest: share,
      shares: [share],
      gapBytes: 12_288,
      searched: { windowBytes: chosen(windows), steps: steps.toSorted((a, b) => a.seconds - b.seconds) },
      grid: { windows, blocks, small },
    }
  })

/** What `tune` finds. */
export const tunings: fc.Arbitrary<TuneDocument> = fc.record({
  folder: name,
  fileSystem: name,
  device: name,
  deviceId: fc.option(name),
  kernel: name,
  version: fc.constant('0.1.0'),
  backend: fc.constantFrom('uring', 'threads'),
  direct: fc.boolean(),
  inMemory: fc.boolean(),
  aim: fc.constantFrom('throughput', 'latency'),
  ioBytes: fc.constant(2 ** 30),
  seconds: fc.constant(29.4),
  tunedAt: fc.constant('2026-02-03T04:05:06.000Z'),
  idleNoise: fc.constant(0.01),
  bar: fc.constant(0.95),
  confidence: fc.constant(0.91),
  read: tuned,
  write: tuned,
  profile: fc.option(name),
  deepSpeed: fc.constant({
    aio: { block_size: 1 << 20, queue_depth: 32, intra_op_parallelism: 1, single_submit: false, overlap_events: true },
  }),
  notes: fc.array(name, { maxLength: 2 }),
})
