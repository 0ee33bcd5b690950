/** The history of `deepring bench`: results that are kept, and what has changed since. */

import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { TaskFigures } from '../lib/command/bench/figures.ts'
import { changesBetween, whyIncomparable, type Result } from '../lib/command/bench/history.ts'
import { deepringIn, refused } from './command.ts'
import { makeScratch } from './harness.ts'
import type { Ended } from './packed.ts'

const scratch = makeScratch()
const MIB = 1 << 20
const NOTHING: never[] = []
const ROOT = process.cwd()

/** A home of its own, in which results are kept. */
function home(): NodeJS.ProcessEnv & { readonly HOME: string } {
  return { HOME: scratch.directory('home'), XDG_STATE_HOME: undefined }
}

function rateOf(lower: number, median: number, upper: number, confidence = 0.97): TaskFigures['rate'] {
  return { lower, median, upper, confidence, warmUp: median, rounds: [median] }
}

/** A result with these rates. */
function resultOf(...rates: TaskFigures['rate'][]): Pick<Result, 'tasks'> {
  return { tasks: rates.map((rate, nth) => ({ name: `task-${nth}`, unit: 'GB/s', rate })) }
}

test('a change counts if the intervals do not meet, and not if they are unsure', (t) => {
  const before = resultOf(rateOf(1, 2, 3), rateOf(1, 2, 3), rateOf(1, 2, 3), rateOf(1, 2, 3, 0.5), rateOf(1, 2, 3))
  const after = resultOf(rateOf(3.1, 4, 5), rateOf(0.5, 0.8, 0.9), rateOf(2.9, 4, 5), rateOf(8, 9, 10))
  const changes = changesBetween(before, after)
  t.deepEqual(
    changes.map(({ verdict, ratio }) => [verdict, ratio]),
    [
      ['better', 2],
      ['worse', 0.4],
      ['same', 2],
      ['unsure', 4.5],
    ],
  )
  t.is(whyIncomparable({ ioBytes: 1, handle: null }, { ioBytes: 1, handle: null }), undefined)
  t.regex(whyIncomparable({ ioBytes: 2, handle: null }, { ioBytes: 1, handle: null }) ?? '', /it has files of 2 B/)
  t.truthy(whyIncomparable({ ioBytes: 1, handle: { queueDepth: 1 } }, { ioBytes: 1, handle: null }))
})

interface Bench {
  readonly ok: boolean
  readonly deviceId: string
  readonly saved: string | null
  readonly notes: readonly string[]
  readonly comparison: {
    readonly path: string
    readonly changes: readonly { readonly name: string; readonly verdict: string; readonly ratio: number }[]
  } | null
  readonly tasks: readonly { readonly name: string; readonly rate: TaskFigures['rate'] }[]
}

const BRIEF = ['--io-size', '16M', '--only', 'read,overwrite', '--no-fio']

test.serial('bench keeps results by device, and compares with the last, or with a file', async (t) => {
  const [folder, variables] = [scratch.directory('bench-history'), home()]
  const bench = async (...words: string[]): Promise<Ended & { readonly document: Bench }> => {
    const ended = await deepringIn(ROOT, variables, 'bench', folder, ...BRIEF, ...words, '--json')
    return { ...ended, document: JSON.parse(ended.stdout) as Bench }
  }
  const first = await bench('--save', '--compare')
  t.is(first.status, 0)
  t.is(first.document.comparison, null)
  t.true(first.document.notes.some((note) => note.startsWith('nothing to compare with: ')))
  const saved = first.document.saved as string
  t.true(saved.startsWith(join(variables.HOME, '.local/state/deepring/bench/')), saved)
  t.is(statSync(saved).mode & 0o777, 0o600)

  const second = await bench('--compare')
  t.is(second.document.saved, null)
  t.is(second.document.comparison?.path, saved)
  const verdicts = second.document.comparison?.changes.map(({ verdict }) => verdict) ?? []
  t.is(verdicts.length, 2)
  t.is(second.status, verdicts.includes('worse') ? 1 : 0)
  t.is(second.document.ok, !verdicts.includes('worse'))

  // A drive that was a thousand times as fast, and one that was a thousand times as slow.
  for (const [factor, verdict, status] of [
    [1000, 'worse', 1],
    [0.001, 'better', 0],
  ] as const) {
    const scaled = JSON.parse(readFileSync(saved, 'utf8')) as Bench
    const tasks = scaled.tasks.map((task) => {
      const { lower, median, upper } = task.rate
      return { ...task, rate: { ...task.rate, lower: lower * factor, median: median * factor, upper: upper * factor } }
    })
    const other = scratch.file(JSON.stringify({ ...scaled, tasks }))
    const { status: code, document } = await bench(`--compare=${other}`)
    t.is(code, status)
    t.deepEqual(
      document.comparison?.changes.map((change) => change.verdict),
      [verdict, verdict],
    )
    const text = await deepringIn(ROOT, variables, 'bench', folder, ...BRIEF, `--compare=${other}`)
    t.is(text.status, status)
    t.regex(text.stdout, new RegExp(`^read .* %  ${verdict}$`, 'm'))
  }
  // Fewer rounds say nothing, whatever the numbers are.
  const brief = await bench('--loops', '1', '--compare')
  t.deepEqual([brief.status, brief.document.comparison?.changes[0]?.verdict], [0, 'unsure'])
})

test.serial('bench names files that it cannot compare with, before it measures', async (t) => {
  const [folder, variables] = [scratch.directory('bench-compare'), home()]
  const bench = (file: string): Promise<Ended> =>
    deepringIn(ROOT, variables, 'bench', folder, ...BRIEF, `--compare=${file}`)
  refused(t, await bench(scratch.path('none')), 1, /there is no '/)
  refused(t, await bench(scratch.file('{')), 1, /is not JSON/)
  refused(t, await bench(scratch.file('{"tasks":[]}')), 1, /is not a result of bench --save or bench --json/)
  refused(t, await bench(''), 2, /--compare needs a value behind its =: FILE/)
  const other = { deviceId: '', measuredAt: '', version: '', kernel: '', ioBytes: 8 * MIB, handle: null, tasks: [] }
  refused(t, await bench(scratch.file(JSON.stringify(other))), 1, /cannot be compared: it has files of 8\.39 MB/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

test.serial('a history that cannot be written is named', async (t) => {
  const variables = home()
  const state = scratch.directory('state')
  writeFileSync(join(state, 'deepring'), '')
  const words = ['bench', scratch.directory('bench-unkept'), ...BRIEF, '--loops', '1', '--save']
  const { status, stderr } = await deepringIn(ROOT, { ...variables, XDG_STATE_HOME: state }, ...words)
  t.is(status, 1)
  t.regex(stderr, /^deepring bench: .*\n$/)
})
