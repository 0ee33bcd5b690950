/**
 * A process that trains with a swapper and checkpoints, and dies when it is asked to; or that measures steps.
 *
 * It kills itself with SIGKILL, because only the process knows at which moment it is. Nothing of it runs afterwards, as after a
 * kill from outside.
 */

import process from 'node:process'
import { setTimeout } from 'node:timers/promises'
import { openCheckpoints, type CheckpointStore } from '../../lib/checkpoint/index.ts'
import { joinCgroup } from './cgroup.ts'
import type { Durations, Moment } from './moments.ts'
import { GROUPS, ROW, Training, type Home } from './network.ts'
import { OneByOne } from './one-by-one.ts'
import { peakMemory } from './peak-memory.ts'
import { Swapped } from './swapped.ts'
import type { Measured, MeasureTask, Report, Task, TrainTask } from './task.ts'

/** Where a planted fault is. */
const PLANT_GROUP = 5
const PLANT_ELEMENT = ROW - 1

function report(message: Report): void {
  process.send?.(message)
}

function die(): void {
  process.kill(process.pid, 'SIGKILL')
}

/** Dies when a part of a phase has passed, or at its end if that comes before. */
async function dieDuring(phase: Promise<unknown>, part: number, typicalMs: number): Promise<void> {
  await Promise.race([phase, setTimeout(part * typicalMs)])
  die()
}

async function train(task: TrainTask): Promise<void> {
  const { shape, moment } = task
  await using store = await openCheckpoints(task.store, { create: true, keep: { last: 2 } })
  const swapped = await Swapped.open(task.directory, shape, task.memory)
  const losses = await resume(store, swapped)
  const training = new Training(shape, swapped)
  await training.begin(losses.length)
  report({ kind: 'resumed', step: losses.length, losses })
  while (training.steps < task.steps) {
    const step = training.steps + 1
    const death = moment?.step === step ? moment : undefined
    swapped.behind = dieBehind(death, task.durations)
    const fatal = death?.phase === 'compute' ? Math.floor(death.part * shape.width) : -1
    const loss = await training.step((neuron) => {
      if (neuron === fatal) die()
    })
    losses.push(loss)
    if (step === task.plantAfter) await swapped.flipBit(PLANT_GROUP, PLANT_ELEMENT)
    report({ kind: 'stepped', step, loss })
    if (step % task.every === 0) await save(store, swapped, losses, death, task.durations)
    const { read, written } = swapped.swapper.stats()
    report({ kind: 'moved', read, written, peak: peakMemory() })
  }
  await swapped.swapper.close()
}

/** Gives the swapper the state of the latest checkpoint, or that of the beginning. Returns the losses up to there. */
async function resume(store: CheckpointStore, swapped: Swapped): Promise<number[]> {
  const { checkpoint, skipped } = await store.latest()
  if (skipped.length > 0) throw new Error('a checkpoint is damaged', { cause: skipped[0]!.reason })
  if (checkpoint === undefined) {
    await swapped.initialize()
    return []
  }
  await using opened = checkpoint
  await swapped.swapper.restore(opened)
  const { step, losses } = opened.meta as { step: number; losses: number[] }
  if (step !== opened.step || step !== losses.length) throw new Error(`a checkpoint has ${losses.length} losses`)
  return losses
}

/** Dies while groups are written behind the program. */
function dieBehind(death: Moment | undefined, { writeMs }: Durations): Swapped['behind'] {
  if (death?.phase !== 'write-behind') return undefined
  // Which group it is, and how much of its write has passed: one number makes both.
  const place = death.part * GROUPS
  return async (group) => {
    if (group !== Math.floor(place)) return
    await setTimeout((place % 1) * writeMs)
    die()
  }
}

async function save(
  store: CheckpointStore,
  { swapper }: Swapped,
  losses: readonly number[],
  death: Moment | undefined,
  { snapshotMs, commitMs }: Durations,
): Promise<void> {
  const step = losses.length
  const writer = await store.begin({ step })
  writer.meta = { step, losses }
  const snapshot = swapper.snapshot(writer)
  if (death?.phase === 'snapshot') await dieDuring(snapshot, death.part, snapshotMs)
  await snapshot
  const commit = writer.commit()
  if (death?.phase === 'commit') await dieDuring(commit, death.part, commitMs)
  await commit
  report({ kind: 'committed', step })
}

/** Does steps from the beginning. From the end of the first to the end of the last, it is the steady state. */
async function measure(task: MeasureTask): Promise<Measured> {
  const { shape } = task
  if (task.way === 'one-by-one') {
    const home = new OneByOne(task.directory, shape)
    await home.initialize()
    const figures = await timed(task, home, () => ({ read: home.read, written: home.written }))
    return { ...figures, overlap: undefined, durations: undefined }
  }
  const home = await Swapped.open(task.directory, shape, task.memory)
  await home.initialize()
  const figures = await timed(task, home, () => home.swapper.stats())
  const { overlap, writeMs, leases } = home.swapper.stats()
  await using store = await openCheckpoints(task.store, { create: true })
  const writer = await store.begin()
  const begun = performance.now()
  await home.swapper.snapshot(writer)
  const captured = performance.now()
  await writer.commit()
  const durations = {
    writeMs: writeMs / leases,
    snapshotMs: captured - begun,
    commitMs: performance.now() - captured,
  }
  await home.swapper.close()
  return { ...figures, overlap, durations }
}

async function timed(
  { shape, steps }: MeasureTask,
  home: Home,
  moved: () => { readonly read: number; readonly written: number },
): Promise<Omit<Measured, 'overlap' | 'durations'>> {
  const training = new Training(shape, home)
  await training.begin(0)
  const losses = [await training.step()]
  const before = { ...moved(), at: performance.now() }
  while (training.steps < steps) losses.push(await training.step())
  const stepMs = (performance.now() - before.at) / (steps - 1)
  const { read, written } = moved()
  report({ kind: 'moved', read, written, peak: peakMemory() })
  return { losses, stepMs, read: (read - before.read) / (steps - 1), written: (written - before.written) / (steps - 1) }
}

function orphaned(): never {
  process.exit(1)
}

// Without the main process, nothing trains.
process.once('disconnect', orphaned)
try {
  const task = JSON.parse(process.argv[2]!) as Task
  if (task.cgroup !== undefined) joinCgroup(task.cgroup)
  if (task.kind === 'train') await train(task)
  else report({ kind: 'measured', measured: await measure(task) })
} catch (error) {
  report({ kind: 'failed', why: (error as Error).stack ?? String(error) })
  process.exitCode = 1
}
process.off('disconnect', orphaned)
process.disconnect()
