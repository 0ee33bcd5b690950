/**
 * `deepring bench`: what a drive gives, at the place where the data will be.
 *
 * ```text
 *   place: room, files of random bytes ──► rounds: every task once, fio and node:fs beside it, every other round backwards ──► table
 * ```
 *
 * The first round only warms up, and is shown apart. Rounds, meters and statistics are those of `npm run bench`. Without
 * `--profile`, the engine begins as on a machine that was never tuned.
 */

import { Engine } from '../../index.ts'
import { AioHandle, type AioHandleOptions } from '../aio/index.ts'
import { fioVersion } from '../measure/fio.ts'
import { idleNoise, NOISE_MAX } from '../measure/meter.ts'
import { comparison, runRounds, type Comparison } from '../measure/rounds.ts'
import { fioContender } from './bench/fio.ts'
import type { BenchComparison, BenchDocument } from './bench/document.ts'
import { figuresOf, reportLines } from './bench/figures.ts'
import {
  changeLines,
  changesBetween,
  keep,
  newestFor,
  resultIn,
  whyIncomparable,
  type Change,
  type Kept,
  type Result,
} from './bench/history.ts'
import { nodeContender } from './bench/node-fs.ts'
import { openPlace } from './bench/place.ts'
import { TASKS, taskContender, type Setup, type Task } from './bench/tasks.ts'
import { WindowWatch } from './bench/window.ts'
import { Misuse, Refusal } from './failure.ts'
import type { Invocation, Options, Report } from './invocation.ts'
import { machineOf } from './machine.ts'
import { nearest } from './nearest.ts'
import { bytesText, digits, printable, quotedOf } from './text.ts'

/** The file that is read and written, if nothing else is said. */
const IO_BYTES = 2 ** 30

/** Rounds behind the one that warms up: with six, the slowest and the fastest enclose the median with 97 %. */
const LOOPS = 6

/** How long the machine is watched before. */
const NOISE_WINDOW_MS = 500

/** Measures a drive. */
export async function bench({ words: [folder = '.'], options, screen, signal }: Invocation): Promise<Report> {
  const tasks = tasksOf(options)
  const minima = minimaOf(options, tasks)
  const loops = options.count('loops') ?? LOOPS
  const handleOptions = handleOptionsOf(options)
  const fio = options.has('no-fio') ? undefined : await fioVersion()
  // Read before minutes are spent.
  const against = options.text('compare')
  const given: Kept | undefined = against === undefined ? undefined : { path: against, result: resultIn(against) }
  await using place = await openPlace(folder, options.size('io-size') ?? IO_BYTES, signal, (line) =>
    screen.status(line),
  )
  const handle = handleOptions ?? null
  const reference = options.has('compare')
    ? (given ?? newestFor(place.deviceId, { ioBytes: place.bytes, handle }))
    : undefined
  const why = reference && whyIncomparable(reference.result, { ioBytes: place.bytes, handle })
  if (why !== undefined) throw new Refusal(`${quotedOf(reference?.path ?? '')} cannot be compared: ${why}`)
  const usesProfile = options.has('profile')
  await using own = usesProfile ? undefined : new Engine({ profile: false })
  const engine = own ?? Engine.default
  const noise = await idleNoise(NOISE_WINDOW_MS, signal)
  const notes = [...place.notes]
  if (options.has('compare') && reference === undefined)
    notes.push(
      `nothing to compare with: no result with files of ${bytesText(place.bytes)} was kept for ${place.deviceId}`,
    )
  if (fio === undefined && !options.has('no-fio')) notes.push('fio is not installed: nothing to compare with')
  if (noise > NOISE_MAX)
    notes.push(`other processes use ${digits(noise)} seconds of CPU per second: wait until they end`)
  const setup: Setup = {
    place,
    engine,
    handle: handleOptions === undefined ? undefined : new AioHandle({ ...handleOptions, engine }),
    signal,
    validates: options.has('validate'),
  }
  const groups = tasks.map((task) => {
    // deepring runs between the two, in both orders.
    const contenders = [
      fio === undefined ? undefined : fioContender(task, place, place.backend, signal),
      taskContender(task, setup),
      options.has('no-node-fs') ? undefined : nodeContender(task, setup),
    ]
    return { task, group: comparison(contenders.filter((contender) => contender !== undefined)) }
  })
  const machine = machineOf(await engine.info(folder, { signal }), folder)
  const began = new Date()
  const watch = new WindowWatch(engine, place.device)
  await runRounds(
    groups.map(({ group }) => group),
    loops + 1,
    (line) => {
      signal.throwIfAborted()
      screen.status(`bench  ${line}`)
    },
  ).catch((error: unknown) => {
    watch.stop()
    throw error
  })
  const window = watch.stop()
  checkRan(groups)
  const figures = groups.map(({ task, group }) => figuresOf(task, group))
  const missed = figures.filter(({ name, rate }) => rate.median < (minima.get(name) ?? 0))
  notes.push(
    ...missed.map(({ name, rate, unit }) => `${name}: ${digits(rate.median)} ${unit} is less than ${minima.get(name)}`),
  )
  const measured: Omit<BenchDocument, 'comparison' | 'saved'> = {
    measuredAt: began.toISOString(),
    seconds: (Date.now() - began.getTime()) / 1e3,
    folder: place.parent,
    fileSystem: place.fileSystem,
    device: place.device,
    deviceId: place.deviceId,
    inMemory: place.inMemory,
    backend: place.backend,
    kernel: place.kernel,
    version: place.version,
    usesProfile,
    ioBytes: place.bytes,
    loops,
    idleNoise: noise,
    fio: fio ?? null,
    handle,
    ok: missed.length === 0,
    notes,
    tasks: figures,
    window,
    machine,
  }
  const changes = reference === undefined ? [] : changesBetween(reference.result, measured)
  const saved = options.has('save') ? await keep(measured) : null
  const ok = missed.length === 0 && changes.every(({ verdict }) => verdict !== 'worse')
  const compared = reference === undefined ? null : comparisonOf(reference, changes)
  const data: BenchDocument = { ...measured, ok, comparison: compared, saved }
  const head = `${place.parent}: ${place.fileSystem} on ${place.device}, ${bytesText(place.bytes)}, ${loops} rounds`
  return {
    data,
    lines: [
      head,
      '',
      ...reportLines(figures, screen.paint),
      ...(reference === undefined
        ? []
        : ['', sinceLine(reference, measured), '', ...changeLines(changes, screen.paint)]),
      ...notesLines(notes),
      ...(saved === null ? [] : ['', `kept in ${printable(saved)}`]),
    ],
    ok,
  }
}

function comparisonOf({ path, result }: Kept, changes: readonly Change[]): BenchComparison {
  const { deviceId, measuredAt, version, kernel } = result
  return { path, deviceId, measuredAt, version, kernel, changes }
}

/** What it is compared with, and what else is not the same. */
function sinceLine({ path, result }: Kept, now: Result): string {
  const others = (['deviceId', 'version', 'kernel'] as const)
    .filter((key) => result[key] !== now[key])
    .map(
      (key) =>
        `${{ deviceId: 'device', version: 'deepring', kernel: 'kernel' }[key]} ${printable(result[key])}, now ${printable(now[key])}`,
    )
  return [`since ${result.measuredAt} (${printable(path)})`, ...others].join('; ')
}

function notesLines(notes: readonly string[]): string[] {
  return notes.length === 0 ? [] : ['', ...notes]
}

/** A rival can be missing, deepring not. */
function checkRan(groups: readonly { readonly task: Task; readonly group: Comparison }[]): void {
  for (const { group } of groups) {
    const why = group.missing.get('deepring')
    if (why !== undefined) throw new Refusal(why)
  }
}

function tasksOf(options: Options): readonly Task[] {
  const only = options.text('only')?.split(',')
  if (only === undefined) return TASKS
  return only.map((name) => taskNamed(name, '--only'))
}

function taskNamed(name: string, option: string): Task {
  const found = TASKS.find((task) => task.name === name)
  if (found !== undefined) return found
  const names = TASKS.map((task) => task.name)
  const near = nearest(name, names)
  const meant = near === undefined ? `the tasks are ${names.join(', ')}` : `did you mean ${quotedOf(near)}?`
  throw new Misuse(`${option}: there is no task ${quotedOf(name)}; ${meant}`)
}

/** `read=2.5,random-128=50`: what each must reach, in the unit of the table. */
function minimaOf(options: Options, tasks: readonly Task[]): Map<string, number> {
  const minima = new Map<string, number>()
  for (const pair of options.text('min')?.split(',') ?? []) {
    const [name = '', value = ''] = pair.split('=')
    const task = taskNamed(name, '--min')
    if (!tasks.includes(task)) throw new Misuse(`--min ${quotedOf(name)}: --only leaves that out`)
    const number = Number(value)
    if (value === '' || !Number.isFinite(number)) throw new Misuse(`--min ${quotedOf(pair)} is not NAME=NUMBER`)
    minima.set(name, number)
  }
  return minima
}

/** DeepNVMe's words, if one was given: then streams go through an `AioHandle`. */
function handleOptionsOf(options: Options): AioHandleOptions | undefined {
  const words = ['block-size', 'depth', 'single-submit', 'sequential', 'parallel']
  if (!words.some((name) => options.has(name))) return undefined
  const [blockSize, queueDepth, parallel] = [
    options.size('block-size'),
    options.count('depth'),
    options.count('parallel'),
  ]
  return {
    ...(blockSize === undefined ? {} : { blockSize }),
    ...(queueDepth === undefined ? {} : { queueDepth }),
    ...(parallel === undefined ? {} : { intraOpParallelism: parallel }),
    singleSubmit: options.has('single-submit'),
    overlapEvents: !options.has('sequential'),
  }
}
