/**
 * The timer inside a contender's process, and its report.
 *
 * `benches/native/src/meter.rs` is its counterpart for the contenders in Rust. Opening, allocating,
 * touching and filling happen before the timer starts, unless the figure is about them.
 */

import { readFileSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
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

/** Busy seconds per second of an idle machine above which its figures mean little. */
export const NOISE_MAX = 0.2

/** Busy seconds per second in the next so many milliseconds, in which this process does nothing. */
export async function idleNoise(windowMs: number, signal?: AbortSignal): Promise<number> {
  const before = busySeconds()
  await sleep(windowMs, undefined, { signal })
  return (busySeconds() - before) / (windowMs / 1e3)
}

/** The largest resident set of this process so far, in bytes. */
export function peakBytes(): number {
  const match = /^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  if (match === null) throw new Error('/proc/self/status has no VmHWM')
  return Number(match[1]) * 1024
}
