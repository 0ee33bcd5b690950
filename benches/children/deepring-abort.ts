/**
 * A signal ends a hundred thousand reads that wait: how long the call into the engine takes, what a tick settles, how long the
 * longest turn of the event loop is, and the CPU of the process, beside that of as many promises that are only rejected. The
 * ends of both are counted by a reaction each.
 */

import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { allocate, Engine } from '../../index.ts'
import { connect } from '../../lib/core/completions.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { positions } from '../../lib/measure/positions.ts'
import { collect } from './collect.ts'
import { parameters, type RandomParameters } from './parameters.ts'
import { threadSeconds } from './stall.ts'

const LENGTH = 4096

/** V8 compiles anew what a first round ends with. */
const ROUNDS_BEFORE = 3

/** Until V8 has swept what it has collected, and compiled what was hot, on threads of its own. */
const QUIET_MS = 100

const { file, bytes, operations, order } = parameters<RandomParameters>()
const places = positions(operations, bytes, order)
const page = allocate(LENGTH)
// One at a time, so that nearly all wait.
await using engine = new Engine({ queueDepth: 1 })
await using handle = await engine.open(file, 'r')

/** CPU, in milliseconds: of the process, and of this thread. */
interface Cpu {
  readonly cpuMs: number
  readonly mainMs: number
}

/** CPU since `before`. */
function cpu(before: Cpu = { cpuMs: 0, mainMs: 0 }): Cpu {
  const { user, system } = process.cpuUsage()
  return { cpuMs: (user + system) / 1e3 - before.cpuMs, mainMs: threadSeconds() * 1e3 - before.mainMs }
}

/** Collects what the promises and requests have cost to make, which is not to be measured. */
async function calmDown(): Promise<void> {
  await turn()
  collect()
  await sleep(QUIET_MS)
}

async function rejectBare(): Promise<Cpu> {
  const rejects: ((reason: Error) => void)[] = []
  let ended = 0
  const count = (): void => void (ended += 1)
  const all = Array.from({ length: operations }, () => {
    const bare = new Promise((_, reject) => void rejects.push(reject))
    bare.then(count, count)
    return bare
  })
  const settled = Promise.allSettled(all)
  await calmDown()
  const before = cpu()
  const reason = new Error('aborted')
  for (const reject of rejects) reject(reason)
  await settled
  const spent = cpu(before)
  if (ended !== operations) throw new Error(`${ended} of ${operations} promises were counted`)
  return spent
}

interface Aborted extends Cpu {
  readonly crossMs: number
  readonly abortMs: number
  readonly settledMax: number
  readonly turnMs: number
  readonly rejected: number
}

async function abortAll(): Promise<Aborted> {
  const native = connect()
  const cancel = native.cancel.bind(native)
  let crossMs = 0
  native.cancel = (ids, cancellation) => {
    const start = performance.now()
    cancel(ids, cancellation)
    crossMs = performance.now() - start
  }
  const controller = new AbortController()
  const { signal } = controller
  let [inTick, settledMax, turnMs, watching] = [0, 0, 0, true]
  const count = (): void => void (inTick += 1)
  const reads = Array.from({ length: operations }, (_, nth) => {
    const reading = handle.read(page, { position: places[nth]!, signal })
    reading.then(count, count)
    return reading
  })
  const settled = Promise.allSettled(reads)
  await calmDown()
  let last = performance.now()
  const look = (): void => {
    const now = performance.now()
    settledMax = Math.max(settledMax, inTick)
    turnMs = Math.max(turnMs, now - last)
    ;[inTick, last] = [0, now]
    if (watching) setImmediate(look)
  }
  const before = cpu()
  last = performance.now()
  controller.abort()
  const abortMs = performance.now() - last
  inTick = 0
  setImmediate(look)
  const outcomes = await settled
  const spent = cpu(before)
  watching = false
  const rejected = outcomes.filter(({ status }) => status === 'rejected').length
  Reflect.deleteProperty(native, 'cancel')
  return { crossMs, abortMs, settledMax, turnMs, rejected, ...spent }
}

// What is compiled, and memory that stays, are not measured.
for (let round = 0; round < ROUNDS_BEFORE; round += 1) {
  // oxlint-disable-next-line no-await-in-loop -- one after the other
  await abortAll()
  // oxlint-disable-next-line no-await-in-loop -- as above
  await rejectBare()
}
const meter = new Meter()
const aborted = await abortAll()
const bare = await rejectBare()
const outcome = meter.stop(operations * LENGTH, operations)
report({ ...outcome, extra: { ...aborted, bareMs: bare.cpuMs, bareMainMs: bare.mainMs } })
