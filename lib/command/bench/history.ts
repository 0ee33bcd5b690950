/**
 * Results of benches that were kept, a file for each, by device; and what has changed since one of them.
 *
 * A change counts if the intervals of the two medians do not meet. With the default of six rounds each interval has its median
 * with 97 %, so that two runs of a drive that is the same seldom differ. Less sure intervals say nothing.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { writeFile } from '../../../index.ts'
import { Refusal } from '../failure.ts'
import type { Paint } from '../screen.ts'
import { bytesText, digits, grid, quotedOf } from '../text.ts'
import type { TaskFigures } from './figures.ts'

/** Results that are kept of a device: years of a nightly run would fill the directory. */
const KEPT_MAX = 100

/** An interval that is less sure is too narrow to say that something has changed. */
const CONFIDENCE_MIN = 0.9

/** The part of a result that is compared. */
export interface Result {
  readonly deviceId: string
  readonly measuredAt: string
  readonly version: string
  readonly kernel: string
  readonly ioBytes: number
  readonly handle: object | null
  readonly tasks: readonly Pick<TaskFigures, 'name' | 'unit' | 'rate'>[]
}

/** `unsure`: too few rounds. */
export type Verdict = 'better' | 'worse' | 'same' | 'unsure'

/** What has become of a task. */
export interface Change {
  readonly name: string
  readonly unit: TaskFigures['unit']
  readonly before: number
  readonly after: number
  /** After by before. */
  readonly ratio: number
  readonly verdict: Verdict
}

/** A result that was kept, and its file. */
export interface Kept {
  readonly path: string
  readonly result: Result
}

/** Where results of a device are kept. */
export function historyFolder(deviceId: string): string {
  const state = process.env['XDG_STATE_HOME'] ?? ''
  const base = isAbsolute(state) ? state : join(homedir(), '.local/state')
  return join(base, 'deepring/bench', deviceId.replaceAll(/[^A-Za-z0-9.-]/g, '_').slice(0, 200))
}

/** Keeps a result, and removes the oldest beyond {@link KEPT_MAX}. Returns its file. */
export async function keep(result: Result): Promise<string> {
  const folder = historyFolder(result.deviceId)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, `${result.measuredAt.replaceAll(':', '-')}.json`)
  await writeFile(path, `${JSON.stringify(result, undefined, 2)}\n`, { replace: true, mode: 0o600 })
  for (const name of namesIn(folder).slice(0, -KEPT_MAX)) rmSync(join(folder, name), { force: true })
  return path
}

/** The files of a folder, the oldest first. */
function namesIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .toSorted()
}

/** Reads a result: what `bench --save` has kept, or the output of `bench --json`. */
export function resultIn(path: string): Result {
  const text = readFileSync(path, 'utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Refusal(`${quotedOf(path)} is not JSON`)
  }
  if (!isResult(value)) throw new Refusal(`${quotedOf(path)} is not a result of bench --save or bench --json`)
  return value
}

function isResult(value: unknown): value is Result {
  const { deviceId, measuredAt, version, kernel, ioBytes, tasks } = (value ?? {}) as Record<string, unknown>
  if (![deviceId, measuredAt, version, kernel].every((text) => typeof text === 'string')) return false
  return typeof ioBytes === 'number' && Array.isArray(tasks) && tasks.every(isTask)
}

function isTask(value: unknown): boolean {
  const { name, unit, rate } = (value ?? {}) as Record<string, unknown>
  const { median, lower, upper, confidence } = (rate ?? {}) as Record<string, unknown>
  return (
    [name, unit].every((text) => typeof text === 'string') &&
    [median, lower, upper, confidence].every((number) => typeof number === 'number')
  )
}

/** Why two results have nothing to do with each other; `undefined` if they can be compared. */
export function whyIncomparable(
  before: Pick<Result, 'ioBytes' | 'handle'>,
  after: Pick<Result, 'ioBytes' | 'handle'>,
): string | undefined {
  if (before.ioBytes !== after.ioBytes)
    return `it has files of ${bytesText(before.ioBytes)}, and these are of ${bytesText(after.ioBytes)}`
  if (!isDeepStrictEqual(before.handle ?? null, after.handle)) return 'its streams had other options'
  return undefined
}

/** The newest result of a device that can be compared. What is damaged is passed over. */
export function newestFor(deviceId: string, setup: Pick<Result, 'ioBytes' | 'handle'>): Kept | undefined {
  const folder = historyFolder(deviceId)
  let names: string[]
  try {
    names = namesIn(folder)
  } catch {
    return undefined
  }
  for (const name of names.toReversed()) {
    const path = join(folder, name)
    try {
      const result = resultIn(path)
      if (result.deviceId === deviceId && whyIncomparable(result, setup) === undefined) return { path, result }
    } catch {
      continue
    }
  }
  return undefined
}

/** What has changed, of the tasks that both have. */
export function changesBetween(before: Pick<Result, 'tasks'>, after: Pick<Result, 'tasks'>): Change[] {
  return after.tasks.flatMap(({ name, unit, rate }) => {
    const old = before.tasks.find((task) => task.name === name && task.unit === unit)?.rate
    if (old === undefined) return []
    return {
      name,
      unit,
      before: old.median,
      after: rate.median,
      ratio: rate.median / old.median,
      verdict: verdictOf(old, rate),
    }
  })
}

function verdictOf(before: TaskFigures['rate'], after: TaskFigures['rate']): Verdict {
  if (Math.min(before.confidence, after.confidence) < CONFIDENCE_MIN) return 'unsure'
  if (after.upper < before.lower) return 'worse'
  return after.lower > before.upper ? 'better' : 'same'
}

/** The table of changes. */
export function changeLines(changes: readonly Change[], paint: Paint): string[] {
  const words: Record<Verdict, string> = {
    better: paint('green', 'better'),
    worse: paint('red', 'worse'),
    same: 'no more than noise',
    unsure: 'too few rounds to say',
  }
  const rows = changes.map(({ name, unit, before, after, ratio, verdict }) => [
    name,
    digits(before),
    digits(after),
    unit,
    `${ratio >= 1 ? '+' : '-'}${digits(Math.abs(ratio - 1) * 100)} %`,
    words[verdict],
  ])
  const head = ['task', 'before', 'now', '', 'change', ''].map((word) => paint('dim', word))
  return grid([head, ...rows], '<>><><')
}
