/** `deepring tune`: on simulated drives, as a process in pipes and in a terminal, and in bad places. */

import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { choose, type Choice } from '../lib/command/tune/choose.ts'
import { deepSpeedAio, kernelOf, profileText } from '../lib/command/tune/profile.ts'
import { deepringIn, interrupted, onTerminal, refused } from './command.ts'
import { makeScratch, tmpfs, type Mounted } from './harness.ts'
import type { Ended } from './packed.ts'

const scratch = makeScratch()
const MIB = 1 << 20
const NOTHING: never[] = []
const ROOT = process.cwd()

const medium = tmpfs(scratch, 'medium', 'size=100m')
const tiny = tmpfs(scratch, 'tiny', 'size=4m')
const readOnly = tmpfs(scratch, 'read-only', 'size=64m,ro')

function testIn(place: Mounted, title: string, body: (t: ExecutionContext, folder: string) => Promise<void>): void {
  if ('refusal' in place) test.skip(`${title} (${place.refusal})`, () => {})
  else test.serial(title, (t) => body(t, place.folder))
}

// Simulated drives.

const LADDER = Array.from({ length: 9 }, (_, step) => MIB * 2 ** step)

/** A stream of numbers that look random, with mean 0 and deviation 1. */
function noiseOf(seed: number): () => number {
  let state = seed >>> 0
  const share = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
  return () => Array.from({ length: 12 }, share).reduce((sum, each) => sum + each, -6)
}

interface Drive {
  /** The rate with so much in flight. */
  readonly rate: (window: number) => number
  /** Its deviation from one measurement to the next. */
  readonly noise: number
  /** The deviation of a drift that all measurements have, from one to the next. */
  readonly drift?: number
}

/** Chooses on a simulated drive, in so many measurements. */
async function chooseOn(
  { rate, noise, drift = 0 }: Drive,
  found: number,
  seed: number,
  measurements = 60,
): Promise<Choice> {
  const next = noiseOf(seed)
  let [done, level] = [0, 0]
  return choose({
    ladder: LADDER,
    found,
    kept: 0.97,
    measure: async (window) => {
      done += 1
      level += drift * next()
      return rate(window) * Math.exp(noise * next() + level)
    },
    isOver: () => done >= measurements,
  })
}

for (const knee of [1, 2, 4, 16, 64, 128]) {
  test(`the smallest window that has the rate is chosen, wherever the engine's search has ended: knee at ${knee} MiB`, async (t) => {
    for (const found of [MIB, 8 * MIB, 256 * MIB]) {
      const drive = { rate: (window: number) => 2e9 * Math.min(1, window / (knee * MIB)), noise: 0.002 }
      const { size, measured } = await chooseOn(drive, found, knee)
      t.is(size, knee * MIB, JSON.stringify(measured.map((each) => [each.size / MIB, each.share])))
    }
  })
}

/** As fast with any window. */
function plateau(noise: number): Drive {
  return { rate: () => 2e9, noise }
}

test('on a plateau the smallest window wins, and with noise one that is as good', async (t) => {
  t.is((await chooseOn(plateau(0), 64 * MIB, 1)).size, MIB)
  let smallest = 0
  for (let seed = 0; seed < 50; seed += 1)
    smallest += (await chooseOn(plateau(0.03), 16 * MIB, seed)).size <= 4 * MIB ? 1 : 0
  t.true(smallest >= 40, `${smallest} of 50`)
})

/** Has its best rate between 4 and 16 MiB. */
function falling(window: number): number {
  return 2e9 * Math.min(1, window / (4 * MIB)) * (window > 16 * MIB ? 0.8 : 1)
}

test('a drive that is slower with more in flight gets less', async (t) => {
  for (let seed = 0; seed < 10; seed += 1)
    t.is((await chooseOn({ rate: falling, noise: 0.01 }, 128 * MIB, seed)).size, 4 * MIB)
})

test('with noise and drift, the choice has 0.95 of the best rate', async (t) => {
  let good = 0
  for (let seed = 0; seed < 60; seed += 1) {
    // A soft knee: half of the rate at 4 MiB.
    const rate = (window: number): number => (2e9 * window) / (window + 4 * MIB)
    const { size } = await chooseOn({ rate, noise: 0.04, drift: 0.03 }, 16 * MIB, seed)
    good += rate(size) >= 0.93 * rate(256 * MIB) ? 1 : 0
  }
  t.true(good >= 54, `${good} of 60`)
})

test('a choice ends with its time, but not before each size ran three times', async (t) => {
  const { measured, rounds } = await chooseOn({ rate: () => 1e9, noise: 0.01 }, 4 * MIB, 1, 0)
  t.is(rounds, 3)
  t.true(measured.every(({ rates }) => rates.length === 3))
})

/** Has its best rate with 32 MiB alone. */
function peaked(window: number): number {
  return 2e9 * (window < 32 * MIB ? 0.62 : window > 32 * MIB ? 0.4 : 1)
}

test('a single size that is best is chosen, if the search has come near', async (t) => {
  for (const found of [8 * MIB, 32 * MIB, 128 * MIB])
    t.is((await chooseOn({ rate: peaked, noise: 0.01 }, found, 3)).size, 32 * MIB)
})

// What is written.

const READ = { windowBytes: 16 * MIB, sharedBytes: 8 * MIB, blockBytes: 4 * MIB, blocks: 64, gapBytes: 12_000 }
const WRITE = { windowBytes: 64 * MIB, sharedBytes: 64 * MIB, blockBytes: MIB, blocks: 32, gapBytes: 0 }

test('DeepSpeed gets the keys that it reads, with numbers and booleans, and as much in flight as the larger window', (t) => {
  t.deepEqual(deepSpeedAio({ read: READ, write: WRITE }), {
    block_size: MIB,
    queue_depth: 64,
    intra_op_parallelism: 1,
    single_submit: false,
    overlap_events: true,
  })
})

test('the text of a profile has a line for each number', (t) => {
  const date = new Date('2026-01-02T03:04:05Z')
  const tuned = { read: READ, write: WRITE }
  const text = profileText({
    device: 'SSD 1',
    kernel: '6.18.44-x',
    version: '1.2.3',
    aim: 'latency',
    date,
    confidence: 0.9,
    tuned,
  })
  t.true(text.startsWith('# '))
  for (const line of ['version = 1', 'device = SSD 1', 'kernel = 6.18', 'read.window = 16777216', 'write.gap = 0'])
    t.true(text.split('\n').includes(line), line)
  t.deepEqual(['7', '7.0', '6.1-rc3'].map(kernelOf), ['7', '7.0', '6.1'])
})

// The verb.

interface Direction {
  readonly windowBytes: number
  readonly sharedBytes: number
  readonly blockBytes: number
  readonly blocks: number
  readonly confidence: number
  readonly shares: readonly number[]
  readonly searched: { readonly steps: readonly { readonly seconds: number; readonly windowBytes: number }[] }
  readonly grid: Readonly<
    Record<'windows' | 'blocks' | 'small', readonly { readonly size: number; readonly rate: number }[]>
  >
}

interface Tuned {
  readonly deviceId: string | null
  readonly inMemory: boolean
  readonly ioBytes: number
  readonly seconds: number
  readonly confidence: number
  readonly read: Direction
  readonly write: Direction
  readonly profile: string | null
  readonly deepSpeed: { readonly aio: Readonly<Record<string, unknown>> }
  readonly notes: readonly string[]
}

interface Place {
  readonly path: {
    readonly window: Readonly<Record<'read' | 'write', { readonly bytes: number; readonly sharedBytes: number }>>
    readonly profile: {
      readonly device?: string
      readonly path?: string
      readonly used: boolean
      readonly reason: string
    }
  }
  readonly profile: { readonly used: boolean; readonly reason: string }
}

const QUICK = ['--seconds', '10', '--io-size', '64M']

/** A home of its own, in which profiles are looked for. */
function home(): NodeJS.ProcessEnv & { readonly HOME: string } {
  return {
    HOME: scratch.directory('home'),
    XDG_CONFIG_HOME: undefined,
    XDG_STATE_HOME: undefined,
    DEEPRING_PROFILE: undefined,
  }
}

async function infoIn(variables: NodeJS.ProcessEnv, folder: string): Promise<Place> {
  const { stdout } = await deepringIn(ROOT, variables, 'info', folder, '--json')
  return JSON.parse(stdout) as Place
}

test.serial('tune finds windows, blocks and small requests, writes a profile, and engines begin with it', async (t) => {
  const [folder, variables] = [scratch.directory('tune'), home()]
  const before = await infoIn(variables, folder)
  t.false(before.path.profile.used)
  const { status, stdout, stderr } = await deepringIn(ROOT, variables, 'tune', folder, ...QUICK, '--json')
  t.deepEqual([status, stderr], [0, ''])
  const tuned = JSON.parse(stdout) as Tuned
  t.is(tuned.ioBytes, 64 * MIB)
  for (const direction of [tuned.read, tuned.write]) {
    const { windowBytes, sharedBytes, blockBytes, blocks, grid, searched, shares, confidence } = direction
    t.true(Number.isInteger(Math.log2(windowBytes)) && sharedBytes <= windowBytes && blockBytes <= windowBytes)
    t.true(blocks >= 1 && shares.length >= 3 && searched.steps.length > 0)
    t.true(confidence >= 0 && confidence < 1)
    t.true(grid.windows.some(({ size, rate }) => size === windowBytes && rate > 0))
    t.true(grid.blocks.some(({ size }) => size === blockBytes))
    t.true(grid.small.some(({ size }) => size === blocks))
  }
  t.is(typeof tuned.deepSpeed.aio['single_submit'], 'boolean')
  t.deepEqual(readdirSync(folder), NOTHING)
  if (tuned.deviceId === null) {
    t.is(tuned.profile, null)
    t.true(tuned.notes.some((note) => note.startsWith('no profile is written: ')))
    return
  }
  const { path, profile } = await infoIn(variables, folder)
  t.is(path.profile.path, tuned.profile as string)
  t.true(path.profile.path?.startsWith(join(variables.HOME, '.config/deepring/')))
  t.is(statSync(tuned.profile as string).mode & 0o777, 0o600)
  t.true(path.profile.used, path.profile.reason)
  t.is(path.window.read.bytes, tuned.read.windowBytes)
  t.is(path.window.write.sharedBytes, tuned.write.sharedBytes)
  t.is(profile.reason, 'no device was used yet')
  // Ignored where the user says so, and where it is damaged.
  t.is(
    (await infoIn({ ...variables, DEEPRING_PROFILE: 'off' }, folder)).path.profile.reason,
    "DEEPRING_PROFILE is 'off'",
  )
  writeFileSync(tuned.profile as string, `${readFileSync(tuned.profile as string, 'utf8')}read.window = 1\n`)
  t.regex((await infoIn(variables, folder)).path.profile.reason, /^damaged: line \d+ has the key of another one$/)
})

test.serial(
  'tune writes where --output says, for people and in its time, and begins with nothing that is there',
  async (t) => {
    const [folder, variables] = [scratch.directory('tune-output'), home()]
    const output = join(scratch.directory('elsewhere'), 'made/nvme.profile')
    const began = performance.now()
    const words = ['tune', folder, ...QUICK, '--output', output, '--for', 'latency']
    const { status, stdout, stderr } = await deepringIn(ROOT, variables, ...words)
    t.deepEqual([status, stderr], [0, ''])
    t.true(performance.now() - began < 60_000)
    t.regex(stdout, /, for latency$/m)
    t.regex(stdout, /^read +\d+ [MK]iB +\d+ [MK]iB +\d+ [MK]iB +\d+ +[\d.]+ +[\d.]+ +\d+ %/m)
    t.regex(stdout, /^write window +\d+ [MK]iB +[\d.]+ +GB\/s .*chosen$/m)
    t.regex(stdout, /^DeepSpeed: \{"aio":\{"block_size":\d+,/m)
    t.deepEqual(readdirSync(variables.HOME), NOTHING)
    if (existsSync(output)) {
      t.true(stdout.includes(`DEEPRING_PROFILE=${output} loads it`))
      t.true((await infoIn({ ...variables, DEEPRING_PROFILE: output }, folder)).path.profile.used)
    } else t.regex(stdout, /no profile is written: nothing names this device/)
  },
)

test.serial('tune that is interrupted leaves nothing, no profile either, and exits with 130', async (t) => {
  const folder = scratch.directory('tune-interrupted')
  const output = join(scratch.directory('tune-interrupted-output'), 'profile')
  const isBusy = (): boolean => readdirSync(folder).some((name) => existsSync(join(folder, name, 'file')))
  const ended = await interrupted(['tune', folder, ...QUICK, '--output', output], isBusy)
  refused(t, ended, 130, /^deepring tune: interrupted\n$/)
  t.deepEqual(readdirSync(folder), NOTHING)
  t.false(existsSync(output))
})

function tune(...words: string[]): Promise<Ended> {
  return deepringIn(ROOT, {}, 'tune', ...words)
}

test('tune names words that are wrong, and places that are', async (t) => {
  const folder = scratch.directory('tune-wrong')
  refused(t, await tune(folder, '--for', 'speed'), 2, /--for must be one of throughput, latency, not 'speed'/)
  refused(t, await tune(folder, '--seconds', '1'), 2, /is not a whole number from 10 on/)
  refused(t, await tune(folder, '--io-size', '4096'), 1, /at least 8\.39 MB/)
  refused(t, await tune(scratch.path('none')), 1, /there is no '/)
  refused(t, await tune(scratch.file('x')), 1, /is not a directory/)
  refused(t, await tune(folder, '--output', folder), 1, /is a directory/)
  refused(t, await tune(folder, '--output', join(scratch.file('x'), 'profile')), 1, /'.*' is not a directory/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

testIn(readOnly, 'tune in a read-only directory, or with its profile there, says so', async (t, folder) => {
  refused(
    t,
    await deepringIn(ROOT, {}, 'tune', folder, '--output', scratch.path('p')),
    1,
    /read-only file system|tune needs/,
  )
  const output = join(folder, 'profile')
  const ended = await deepringIn(ROOT, {}, 'tune', scratch.directory('tune-read-only'), '--output', output)
  refused(t, ended, 1, /read-only file system/)
})

testIn(tiny, 'tune on a full disk asks for as much room as it needs', async (t, folder) => {
  refused(t, await deepringIn(ROOT, {}, 'tune', folder), 1, /tune needs 8\.39 MB in '.*', where 4\.\d+ MB are free/)
})

testIn(
  medium,
  'tune takes less where there is less room, and says so, and that it measures memory',
  async (t, folder) => {
    const variables = home()
    const { status, stdout } = await deepringIn(ROOT, variables, 'tune', folder, '--seconds', '10', '--json')
    t.is(status, 0)
    const { inMemory, ioBytes, profile, notes } = JSON.parse(stdout) as Tuned
    t.deepEqual([inMemory, profile], [true, null])
    t.true(ioBytes < 100 * MIB)
    t.true(
      notes.some((note) => /there is room for a file of 9\d\.\d MB, not of 1\.07 GB/.test(note)),
      notes.join('\n'),
    )
    t.true(notes.some((note) => /is in memory \(tmpfs\): this measures memory, not a drive/.test(note)))
    t.true(notes.some((note) => /no profile is written: nothing names this device/.test(note)))
    t.deepEqual([readdirSync(folder), readdirSync(variables.HOME)], [NOTHING, NOTHING])
  },
)

test.serial('tune shows what it does in a terminal, and how much of its time is over', async (t) => {
  const { status, bars, lines } = await onTerminal([
    'tune',
    scratch.folder,
    ...QUICK,
    '--output',
    scratch.path('profile'),
  ])
  t.is(status, 0)
  t.true(
    bars.some((bar) => /^tune {2}\d+ of 10 s {2}reads: the engine searches$/.test(bar)),
    bars.join('\n'),
  )
  t.true(bars.some((bar) => /^tune {2}\d+ of 10 s {2}writes: windows, round \d+$/.test(bar)))
  t.false(lines.some((line) => line.startsWith('tune  ')))
})
