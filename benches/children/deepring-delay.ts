/**
 * The delay of the event loop's timers while deepring reads, and while the process is idle.
 *
 * `monitorEventLoopDelay` counts its own interval of 1 ms, so the idle process is measured first,
 * and both values are reported.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { parameters, type FileParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const IDLE_MS = 2000

const { file, bytes, passes } = parameters<FileParameters & { passes: number }>()
const data = allocate(bytes)
data.fill(0x5a)
await using handle = await open(file, 'r')
await handle.read(data, { position: 0 })

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
await sleep(IDLE_MS)
const idleP99Ms = delay.percentile(99) / 1e6
delay.reset()
const meter = new Meter()
let ran = ''
for (let pass = 0; pass < passes; pass += 1) {
  // oxlint-disable-next-line no-await-in-loop -- passes follow each other, as the figure says
  const { receipt } = await handle.read(data, { position: 0 })
  ran = ranOf(receipt)
}
const outcome = meter.stop(bytes * passes, passes)
const busyP99Ms = delay.percentile(99) / 1e6
const busyMaxMs = delay.max / 1e6
delay.disable()
report({ ...outcome, ran, extra: { idleP99Ms, busyP99Ms, busyMaxMs } })
