/**
 * The machine the figures were measured on, and how busy it is while the bench is idle.
 */

import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { deviceFacts } from '../lib/command/machine.ts'
import { idleNoise } from '../lib/measure/meter.ts'

const NOISE_WINDOW_MS = 2000

/** A description of the machine. */
export interface Machine {
  readonly kernel: string
  readonly processor: string
  readonly cores: number
  readonly memoryBytes: number
  readonly node: string
  readonly fileSystem: string
  readonly disk: Readonly<Record<string, string>>
  /** Busy seconds per second while nothing runs. */
  readonly idleNoise: number
}

/**
 * Describes the machine and the disk under `folder`. Waits two seconds to measure the idle noise.
 */
export async function describeMachine(folder: string): Promise<Machine> {
  return {
    kernel: release(),
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    node: process.version,
    fileSystem: fileSystem(folder),
    disk: deviceFacts(folder),
    idleNoise: await idleNoise(NOISE_WINDOW_MS),
  }
}

/** One line for the terminal and the charts. */
export function machineLine(machine: Machine): string {
  const { name = 'unknown disk', model = '' } = machine.disk
  return `Linux ${machine.kernel}, ${machine.cores} cores (${machine.processor}), ${machine.fileSystem} on ${name}${model === '' ? '' : ` (${model})`}, Node ${machine.node}`
}

/** The type of the file system a folder lies on: the mount with the longest matching path. */
function fileSystem(folder: string): string {
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => line.split(' '))
  const holding = mounts.filter(
    ([, point = '']) => folder === point || folder.startsWith(point.endsWith('/') ? point : `${point}/`),
  )
  return (
    holding.reduce<readonly string[]>(
      (best, mount) => ((mount[1] ?? '').length >= (best[1] ?? '').length ? mount : best),
      [],
    )[2] ?? 'unknown'
  )
}
