/**
 * What one piece of work costs its process: time, CPU, memory and event-loop delay.
 *
 * Peak memory is `VmHWM`, not `getrusage`: a child process inherits its parent's peak there, and
 * the parent here holds gigabytes. (A child that did nothing reported its parent's 500 MiB as
 * `maxRSS` and 42 MiB as `VmHWM`.) The peak never falls, so each contender is measured in its own
 * process.
 *
 * CPU is that of the process, system calls included. Kernel threads that write the page cache back
 * are not included, which favors buffered writes.
 */

import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout } from 'node:timers/promises'

/**
 * `monitorEventLoopDelay` counts its own interval as delay; at 1 ms an idle loop shows about 1.1 ms
 * instead of 10.
 */
const LOOP_RESOLUTION_MS = 1

/** Long enough for some hundred samples of the idle loop. */
const IDLE_MS = 300

export interface Cost {
  seconds: number
  cpuSeconds: number
  /** Highest resident memory of the process since it started. */
  peakBytes: number
  /** Event-loop delay while the work ran, less the idle loop's p99. */
  loopP99Ms: number
  loopMaxMs: number
}

/** Runs `work` once and returns its value and its cost. */
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

  // If the loop was blocked to the very end, the histogram's timer needs one more turn to see it.
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
