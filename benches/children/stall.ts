/**
 * How late the event loop's timers are: the longest delay, less the usual one of the idle process,
 * which is the monitor's own interval. The longest of the idle process would hide stalls on a busy
 * machine.
 */

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'

const IDLE_MS = 500

/** Several intervals of the monitor: after a reset, its first timer only begins to count. */
const SETTLE_MS = 5

/** Watches the event loop of this process. */
export class StallMonitor {
  readonly #loop = monitorEventLoopDelay({ resolution: 1 })
  #idleMs = 0

  /** Begins, and measures the idle process first. */
  static async start(): Promise<StallMonitor> {
    const monitor = new StallMonitor()
    monitor.#loop.enable()
    await sleep(IDLE_MS)
    monitor.#idleMs = monitor.#loop.percentile(50) / 1e6
    await monitor.#reset()
    return monitor
  }

  /** The longest stall since the start or the last call, in milliseconds. */
  async take(): Promise<number> {
    // A delay counts when the timer behind it has run.
    await sleep(SETTLE_MS)
    const longestMs = this.#loop.max / 1e6 - this.#idleMs
    await this.#reset()
    return Math.max(0, longestMs)
  }

  stop(): void {
    this.#loop.disable()
  }

  async #reset(): Promise<void> {
    this.#loop.reset()
    await sleep(SETTLE_MS)
  }
}

/** CPU of the calling thread, in microseconds. Node has it since 23.9. */
interface ThreadCpu {
  threadCpuUsage(): { readonly user: number; readonly system: number }
}

/** CPU seconds of the JavaScript thread. */
export function threadSeconds(): number {
  const { user, system } = (process as unknown as ThreadCpu).threadCpuUsage()
  return (user + system) / 1e6
}
