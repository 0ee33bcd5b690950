/**
 * The timer inside a contender's process, and its report.
 *
 * `native/src/meter.rs` is its counterpart for the contenders in Rust. Opening, allocating,
 * touching and filling happen before the timer starts, unless the figure is about them.
 */

import { readFileSync, writeSync } from 'node:fs'
import type { Outcome } from './outcome.ts'

/**
 * USER_HZ: the unit of /proc/stat, fixed by the kernel's interface on every architecture Node runs
 * on.
 */
const TICKS_PER_SECOND = 100

/** A running timer. It starts when it is constructed. */
export class Meter {
  readonly #cpu = process.resourceUsage()
  readonly #busySeconds = busySeconds()
  readonly #started = performance.now()

  /** Ends the region. The peak is taken here, before a contender checks what it read. */
  stop(bytes: number, operations: number): Outcome {
    const wallSeconds = (performance.now() - this.#started) / 1e3
    const cpu = process.resourceUsage()
    return {
      wallSeconds,
      userSeconds: (cpu.userCPUTime - this.#cpu.userCPUTime) / 1e6,
      systemSeconds: (cpu.systemCPUTime - this.#cpu.systemCPUTime) / 1e6,
      busySeconds: busySeconds() - this.#busySeconds,
      peakBytes: peakBytes(),
      bytes,
      operations,
    }
  }
}

/** Prints the outcome for the parent. A child prints nothing else. */
export function report(outcome: Outcome): void {
  writeSync(1, `${JSON.stringify(outcome)}\n`)
}

/**
 * Busy seconds of all processors since boot: user, nice, system, irq, softirq. Stolen time is left
 * out, because the host used it.
 */
export function busySeconds(): number {
  const [, user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]!
    .split(/\s+/)
    .map(Number)
  return (user! + nice! + system! + irq! + softirq!) / TICKS_PER_SECOND
}

/** The largest resident set of this process so far, in bytes. */
export function peakBytes(): number {
  const match = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  if (match === null) throw new Error('/proc/self/status has no VmHWM')
  return Number(match[1]) * 1024
}
