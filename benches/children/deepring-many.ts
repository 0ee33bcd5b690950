/**
 * deepring reads records at random from JavaScript: in calls of many ranges, two at a time, or with a promise each, 128 at a
 * time. It measures the CPU of this thread, too, and how late the event loop's timers were.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { positions } from '../../lib/measure/positions.ts'
import { parameters, type ManyParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const LANES = 128
const CALLS = 2
const IDLE_MS = 500
const FIRST_TICK_MS = 5

/** CPU of the calling thread, in microseconds. Node has it since 23.9. */
interface ThreadCpu {
  threadCpuUsage(): { readonly user: number; readonly system: number }
}

function threadMicroseconds(): number {
  const { user, system } = (process as unknown as ThreadCpu).threadCpuUsage()
  return user + system
}

const { file, bytes, operations, order, length, ranges, delay } = parameters<ManyParameters>()
const places = positions(operations, bytes, order)
const slots = ranges === 1 ? LANES : CALLS
const memory = allocate(slots * ranges * length)
memory.fill(0x5a)
const buffers = Array.from({ length: slots }, (_, slot) =>
  memory.subarray(slot * ranges * length, (slot + 1) * ranges * length),
)
await using handle = await open(file, 'r')
let next = 0
let ran = ''
let moved = 0

const lane = async (buffer: Uint8Array): Promise<void> => {
  while (next < operations) {
    if (ranges === 1) {
      const position = places[next++]!
      // oxlint-disable-next-line no-await-in-loop -- a lane has one read in flight; the lanes are the depth
      const { bytesRead, receipt } = await handle.read(buffer, { position })
      moved += bytesRead
      if (ran === '') ran = ranOf(receipt)
      continue
    }
    const some = places.subarray(next, (next += ranges))
    // oxlint-disable-next-line no-await-in-loop -- as above
    const { bytesRead, receipt } = await handle.readMany(buffer, { positions: some, lengths: length })
    moved += bytesRead
    if (ran === '') ran = ranOf(receipt)
  }
}

// The functions are compiled, and the drive is awake.
await handle.readMany(memory.subarray(0, length), { positions: [0], lengths: length })
const loop = monitorEventLoopDelay({ resolution: 1 })
if (delay) loop.enable()
await sleep(IDLE_MS)
const idleMaxMs = loop.max / 1e6
loop.reset()
// The first tick after a reset only starts the clock.
if (delay) await sleep(FIRST_TICK_MS)
const before = threadMicroseconds()
const meter = new Meter()
await Promise.all(buffers.map(lane))
const outcome = meter.stop(operations * length, operations)
const mainSeconds = (threadMicroseconds() - before) / 1e6
await sleep(2)
const busyMaxMs = loop.max / 1e6
loop.disable()
if (moved !== operations * length) throw new Error(`${moved} bytes were read, not ${operations * length}`)
report({ ...outcome, ran, extra: delay ? { mainSeconds, idleMaxMs, busyMaxMs } : { mainSeconds } })
