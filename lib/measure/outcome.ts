/**
 * The result of one run of one contender: the measurements of its timed region.
 *
 * GB is 10^9 bytes, as disk vendors and fio count. CPU is the process's own (rusage). "Machine" is
 * the busy time of all processors in the same window, less the idle noise measured before the first
 * run, so it includes kernel workers. It is counted in ticks of 10 ms.
 */

/** One measured run. */
export interface Outcome {
  /** Wall time of the timed region, in seconds. */
  readonly wallSeconds: number
  /** CPU of the process in user mode, in seconds. */
  readonly userSeconds: number
  /** CPU of the process in the kernel, in seconds. */
  readonly systemSeconds: number
  /** Busy time of the whole machine, in seconds. */
  readonly busySeconds: number
  /** The window of `busySeconds` if it is longer than the region, in seconds. */
  readonly busyWindowSeconds?: number
  /** The largest resident set of the process, in bytes. */
  readonly peakBytes: number
  /** Bytes moved in the region. */
  readonly bytes: number
  /** Requests made in the region. */
  readonly operations: number
  /** The path that ran (`uring, direct`), if the contender knows it. */
  readonly ran?: string
  /** Extra measurements of a benchmark, by name. */
  readonly extra?: Readonly<Record<string, number>>
}

/** CPU seconds of the process. */
export function cpuSeconds(outcome: Outcome): number {
  return outcome.userSeconds + outcome.systemSeconds
}

/** Busy seconds of the machine, less its idle noise. `noise` is busy seconds per second. */
export function machineSeconds(outcome: Outcome, noise: number): number {
  return Math.max(0, outcome.busySeconds - noise * (outcome.busyWindowSeconds ?? outcome.wallSeconds))
}

/** Parses the object that a contender printed as its last line. */
export function parseOutcome(output: string): Outcome {
  const line = output.trimEnd().split('\n').at(-1) ?? ''
  const value = JSON.parse(line) as Partial<Record<keyof Outcome, unknown>>
  for (const key of [
    'wallSeconds',
    'userSeconds',
    'systemSeconds',
    'busySeconds',
    'peakBytes',
    'bytes',
    'operations',
  ] as const) {
    if (typeof value[key] !== 'number' || !Number.isFinite(value[key]))
      throw new Error(`a contender reported no ${key}: ${line}`)
  }
  return value as Outcome
}
