/**
 * A training whose optimizer has more state than memory, held against the same training in memory: {@link compareTrainings}.
 *
 *   1. train in memory                                                   in-memory.ts, network.ts
 *   2. measure steps: swapped, and in DeepSpeed's order of operations    swapped.ts, one-by-one.ts
 *   3. train swapped, in processes that die in the middle of computing,  child.ts, moments.ts, life.ts
 *      writing, a snapshot or a commit, and resume from the latest
 *      checkpoint
 *   4. compare every loss, and every bit of the last checkpoint
 */

import { mkdir } from 'node:fs/promises'
import { openCheckpoints } from '../../lib/checkpoint/index.ts'
import type { Progress } from '../demo/progress.ts'
import { formatSize } from '../demo/size.ts'
import type { Workspace } from '../demo/workspace.ts'
import { MemoryLimit } from './cgroup.ts'
import { InMemory } from './in-memory.ts'
import { live } from './life.ts'
import { Moments, PHASES, type Durations, type Moment, type Phase } from './moments.ts'
import { GROUPS, PARTS, stateBytesOf, Training, type Shape } from './network.ts'
import { peakMemory } from './peak-memory.ts'
import { random } from './random.ts'
import { groupName } from './swapped.ts'
import type { Measured, MeasureTask, Report, TrainTask } from './task.ts'

/** Of the state, what is in memory at once, and no more than so many bytes. */
const SHARE = 4
const MEMORY_MAX_BYTES = 64 * 2 ** 20
/** What a process has beside the budget: Node itself, the network, the snapshot. */
const BESIDE_BYTES = 200 * 2 ** 20
/** Steps from one checkpoint to the next. */
const EVERY = 2
/** More than the kills need. */
const SPARE_INTERVALS = 2
const MEASURED_STEPS = 6
/** Files at once: the swapper, three checkpoints of which one is removed, and those of the measurements before. */
const FILES_PER_STATE = 5

export interface TrainingOptions {
  /** Hidden neurons. */
  readonly width: number
  /** Default: what the kills need. */
  readonly steps?: number | undefined
  /** Kills in each of the four phases. */
  readonly kills: number
  readonly seed: number
  /** Changes one bit of the swapped state in the middle of the training. */
  readonly plantError: boolean
}

/** Time, bytes and memory of steps. */
export interface Cost {
  readonly title: string
  readonly stepMs: number
  readonly read: number
  readonly written: number
  readonly overlap: number | undefined
  readonly peak: number
}

export interface Outcome {
  readonly stateBytes: number
  readonly memory: number
  readonly losses: readonly number[]
  readonly kills: Readonly<Record<Phase, number>>
  /** Steps that were computed again after a kill. */
  readonly repeated: number
  readonly costs: readonly Cost[]
  /** Of all processes of the training that was killed. */
  readonly read: number
  readonly written: number
  readonly peak: number
}

/** Throws an error that says what differs. */
export async function compareTrainings(
  workspace: Workspace,
  progress: Progress,
  options: TrainingOptions,
): Promise<Outcome> {
  checkOptions(options)
  const shape: Shape = { width: options.width, seed: options.seed }
  const steps = options.steps ?? EVERY * (options.kills + 1 + SPARE_INTERVALS)
  const moments = new Moments(options.kills, steps, EVERY, random(options.seed))
  const stateBytes = stateBytesOf(shape)
  const memory = Math.min(Math.floor(stateBytes / SHARE), MEMORY_MAX_BYTES)
  const free = await workspace.freeBytes()
  if (free < FILES_PER_STATE * stateBytes)
    throw new Error(
      `${formatSize(FILES_PER_STATE * stateBytes)} are needed on the drive, and ${formatSize(free)} are free`,
    )
  progress.line(
    `state       ${formatSize(stateBytes)} in ${GROUPS} groups, a budget of ${formatSize(memory)}, seed ${options.seed}`,
  )
  const limit = limited(progress, memory + BESIDE_BYTES)
  try {
    return await new Comparison(workspace, progress, options, { shape, steps, memory, limit, moments }).run()
  } finally {
    limit?.remove()
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function checkOptions({ width, steps, kills, seed }: TrainingOptions): void {
  if (!isCount(width / GROUPS) || width === 0) throw new RangeError(`the width has to be a multiple of ${GROUPS}`)
  if (!isCount(kills)) throw new RangeError('the kills in a phase have to be a whole number')
  if (!isCount(seed)) throw new RangeError('the seed has to be a whole number')
  if (steps !== undefined && !isCount(steps)) throw new RangeError('the steps have to be a whole number')
}

/** The limit of memory, if there can be one. */
function limited(progress: Progress, bytes: number): MemoryLimit | undefined {
  try {
    const limit = new MemoryLimit(bytes)
    progress.line(`limit       processes that swap are in a cgroup that allows ${formatSize(bytes)}`)
    return limit
  } catch (error) {
    progress.line(`limit       none by the kernel: ${(error as Error).message}; the peak is checked instead`)
    return undefined
  }
}

interface Setting {
  readonly shape: Shape
  readonly steps: number
  readonly memory: number
  readonly limit: MemoryLimit | undefined
  readonly moments: Moments
}

class Comparison {
  readonly #workspace: Workspace
  readonly #progress: Progress
  readonly #options: TrainingOptions
  readonly #setting: Setting
  /** The losses in memory. */
  readonly #losses: number[] = []
  readonly #kills: Record<Phase, number> = { compute: 0, 'write-behind': 0, snapshot: 0, commit: 0 }
  /** The latest step whose checkpoint must be there. */
  #committed = 0
  #repeated = 0
  #read = 0
  #written = 0
  #peak = 0

  constructor(workspace: Workspace, progress: Progress, options: TrainingOptions, setting: Setting) {
    this.#workspace = workspace
    this.#progress = progress
    this.#options = options
    this.#setting = setting
  }

  async run(): Promise<Outcome> {
    const { shape, steps, memory } = this.#setting
    const home = new InMemory(shape)
    const inMemory = await this.#bar(
      'in memory',
      () => this.#losses.length / steps,
      () => this.#trainInMemory(home),
    )
    const swapped = await this.#bar(
      'measure',
      () => 0.25,
      () => this.#measure('swapped'),
    )
    const oneByOne = await this.#bar(
      'measure',
      () => 0.75,
      () => this.#measure('one-by-one'),
    )
    if (swapped.durations === undefined) throw new Error('the process did not report how long its phases take')
    const { durations } = swapped
    await this.#train(durations)
    await this.#bar(
      'compare',
      () => 0.5,
      () => this.#compare(home),
    )
    return {
      stateBytes: stateBytesOf(shape),
      memory,
      losses: this.#losses,
      kills: this.#kills,
      repeated: this.#repeated,
      costs: [inMemory, { title: 'swapped', ...swapped }, { title: "DeepSpeed's order, on AioHandle", ...oneByOne }],
      read: this.#read,
      written: this.#written,
      peak: this.#peak,
    }
  }

  #bar<T>(label: string, done: () => number, work: () => Promise<T>): Promise<T> {
    return this.#progress.bar(label, done, work)
  }

  async #trainInMemory(home: InMemory): Promise<Cost> {
    const { shape, steps } = this.#setting
    const training = new Training(shape, home)
    await training.begin(0)
    this.#losses.push(await training.step())
    const begun = performance.now()
    while (training.steps < steps) this.#losses.push(await training.step())
    const stepMs = (performance.now() - begun) / (steps - 1)
    const [first, last] = [this.#losses[0]!, this.#losses.at(-1)!]
    if (!(last <= first / 2)) throw new Error(`the loss went from ${first} to ${last} only: it has to halve`)
    return { title: 'in memory', stepMs, read: 0, written: 0, overlap: undefined, peak: peakMemory() }
  }

  #task(directory: string): Omit<MeasureTask, 'kind' | 'way' | 'store'> {
    const { shape, steps, memory, limit } = this.#setting
    return { shape, steps, memory, directory: this.#workspace.path(directory), cgroup: limit?.directory }
  }

  async #measure(way: MeasureTask['way']): Promise<Measured & { peak: number }> {
    const task = { ...this.#task(way), steps: Math.min(MEASURED_STEPS, this.#setting.steps) }
    await mkdir(task.directory)
    const heard: { measured?: Measured; peak: number } = { peak: 0 }
    const store = this.#workspace.path(`${way}-checkpoints`)
    const killed = await live(this.#workspace, { ...task, kind: 'measure', way, store }, (report) => {
      if (report.kind === 'measured') heard.measured = report.measured
      if (report.kind === 'moved') heard.peak = report.peak
    })
    const { measured, peak } = heard
    if (measured === undefined) throw new Error(this.#whyKilled(killed))
    for (const [nth, loss] of measured.losses.entries()) this.#checkLoss(nth + 1, loss)
    this.#checkPeak(peak)
    return { ...measured, peak }
  }

  /** One process after the other, until one comes to the end. */
  async #train(durations: Durations): Promise<void> {
    const { moments, steps } = this.#setting
    const common = { ...this.#task('optimizer'), kind: 'train' as const, every: EVERY, durations }
    const store = this.#workspace.path('checkpoints')
    const plantAfter = this.#options.plantError ? Math.ceil(steps / 2) : undefined
    for (;;) {
      const from = await this.#latest(store)
      const moment = moments.next(from)
      const killed = await this.#bar(
        'train',
        () => this.#committed / steps,
        () => this.#live({ ...common, store, moment, plantAfter }, from),
      )
      if (moment === undefined) {
        if (killed) throw new Error(this.#whyKilled(killed))
        return
      }
      if (!killed) throw new Error(`a process was not killed in ${moment.phase} of step ${moment.step}`)
      const kernelKills = this.#setting.limit?.kills ?? 0
      if (kernelKills > 0) throw new Error(this.#whyKilled(killed))
      this.#kills[moment.phase] += 1
      this.#progress.line(describe(moment))
    }
  }

  async #live(task: TrainTask, from: number): Promise<boolean> {
    let [done, read, written] = [from, 0, 0]
    const hear = (report: Report): void => {
      if (report.kind === 'resumed') {
        if (report.step !== from)
          throw new Error(`a process resumed from step ${report.step}, and ${from} is the latest`)
        for (const [nth, loss] of report.losses.entries()) this.#checkLoss(nth + 1, loss)
      }
      if (report.kind === 'stepped') {
        this.#checkLoss(report.step, report.loss)
        done = report.step
      }
      if (report.kind === 'committed') this.#committed = report.step
      if (report.kind === 'moved') {
        ;({ read, written } = report)
        this.#peak = Math.max(this.#peak, report.peak)
      }
    }
    const killed = await live(this.#workspace, task, hear)
    this.#read += read
    this.#written += written
    this.#checkPeak(this.#peak)
    if (killed) this.#repeated += done - (await this.#latest(task.store))
    return killed
  }

  /** The step of the latest checkpoint. None that was committed is lost. */
  async #latest(directory: string): Promise<number> {
    await using store = await openCheckpoints(directory, { create: true })
    const { checkpoint } = await store.latest()
    const step = checkpoint?.step ?? 0
    await checkpoint?.close()
    if (step < this.#committed) throw new Error(`the checkpoint of step ${this.#committed} was lost: there is ${step}`)
    this.#committed = step
    return step
  }

  /** Compares every bit of the last checkpoint. */
  async #compare(home: InMemory): Promise<void> {
    await using store = await openCheckpoints(this.#workspace.path('checkpoints'))
    const { checkpoint, skipped } = await store.latest({ verify: 'all' })
    if (skipped.length > 0) throw new Error('a checkpoint is damaged', { cause: skipped[0]!.reason })
    if (checkpoint === undefined) throw new Error('there is no checkpoint')
    await using opened = checkpoint
    if (opened.step !== this.#setting.steps) throw new Error(`the last checkpoint is of step ${opened.step}`)
    for (const [group, parts] of home.parts.entries())
      for (const part of PARTS) {
        const name = `${groupName(group)}.${part}`
        using tensor = await opened.tensor(name)
        const expected = new Uint8Array(parts[part].buffer, parts[part].byteOffset, parts[part].byteLength)
        if (Buffer.compare(tensor.bytes, expected) === 0) continue
        const at = tensor.bytes.findIndex((byte, place) => byte !== expected[place])
        throw new Error(`${name} differs from what it is in memory, from byte ${at} on`)
      }
  }

  #checkLoss(step: number, loss: number): void {
    const expected = this.#losses[step - 1]
    if (!Object.is(loss, expected))
      throw new Error(`the loss of step ${step} is ${loss}, and in memory it is ${expected}`)
  }

  #checkPeak(peak: number): void {
    const most = this.#setting.memory + BESIDE_BYTES
    if (peak > most) throw new Error(`a process had ${formatSize(peak)} of memory, and ${formatSize(most)} is the most`)
  }

  #whyKilled(killed: boolean): string {
    if (!killed) return 'a process ended before its task'
    const kernelKills = this.#setting.limit?.kills ?? 0
    return kernelKills > 0 ? 'the kernel killed a process that had more memory than its limit' : 'a process was killed'
  }
}

function describe({ phase, step, part }: Moment): string {
  return `killed      in ${phase} of step ${step}, after ${Math.round(part * 100)} %`
}

/** For a sentence: `10 in compute, 10 in write-behind, ...`. */
export function countsOf(kills: Outcome['kills']): string {
  return PHASES.map((phase) => `${kills[phase]} in ${phase}`).join(', ')
}
