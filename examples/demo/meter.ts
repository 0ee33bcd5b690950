/**
 * What one piece of work costs its process: time, CPU, memory, and how long the event loop was kept waiting.
 *
 * Peak memory is `VmHWM`, not `getrusage`: the kernel hands a parent's peak on to the child it starts, and the parent here holds
 * gigabytes. (A child that did nothing reported its parent's 500 MiB as `maxRSS` and 42 MiB as `VmHWM`.) It never falls, so
 * whoever wants to know what one way costs runs it in a process of its own.
 *
 * CPU is that of the process, system calls included. Kernel threads that write the page cache back are not in it, which is to
 * the advantage of buffered writes.
 */

import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'

/** `monitorEventLoopDelay` counts its own interval as delay; at 1 ms an idle loop shows about 1.1 ms instead of 10. */
const LOOP_RESOLUTION_MS = 1

/** Long enough for some hundred samples of the idle loop. */
const IDLE_MS = 300

export interface Cost {
  seconds: number
  cpuSeconds: number
  /** Highest resident memory of the process since it started. */
  peakBytes: number
  /** Event-loop delay while the work ran, the idle loop's p99 taken off. */
  loopP99Ms: number
  loopMaxMs: number
}

/** Runs `work` once and gives what it gave, with what it cost. */
export async function measure<T>(work: () => Promise<T>): Promise<{ value: T; cost: Cost }> {
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
  loop.enable()
  await setTimeout(IDLE_MS)
  const idleMs = loop.percentile(99) / 1e6
  loop.reset()

  const cpuBefore = process.cpuUsage()
  const started = performance.now()
  const value = await work()
  const seconds = (performance.now() - started) / 1000
  const cpu = process.cpuUsage(cpuBefore)

  // A loop that was blocked to the very end has yet to notice: the timer of the histogram needs one more turn.
  await setTimeout(LOOP_RESOLUTION_MS)
  loop.disable()
  const cost = {
    seconds,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    peakBytes: peakBytes(),
    loopP99Ms: Math.max(0, loop.percentile(99) / 1e6 - idleMs),
    loopMaxMs: Math.max(0, loop.max / 1e6 - idleMs),
  }
  return { value, cost }
}

function peakBytes(): number {
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024
  const match = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return Number(match?.[1]) * 1024
}
