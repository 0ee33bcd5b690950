/**
 * The machine the figures were measured on, and how busy it is while the bench is idle.
 */

import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { busySeconds } from './meter.ts'

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
  const before = busySeconds()
  await sleep(NOISE_WINDOW_MS)
  const idleNoise = (busySeconds() - before) / (NOISE_WINDOW_MS / 1e3)
  return {
    kernel: release(),
    processor: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryBytes: totalmem(),
    node: process.version,
    fileSystem: fileSystem(folder),
    disk: disk(folder),
    idleNoise,
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

/** What the kernel reports about the disk; empty for file systems without one. */
function disk(folder: string): Record<string, string> {
  const number = statSync(folder).dev
  // The encoding of new_encode_dev: the minor's low byte, twelve bits of major, the rest of the
  // minor.
  const major = (number >>> 8) & 0xfff
  const minor = (number & 0xff) | ((number >>> 12) & 0xfff00)
  const link = `/sys/dev/block/${major}:${minor}`
  if (!existsSync(link)) return {}
  const device = realpathSync(link)
  // A partition has no queue; its disk, one folder up, has one.
  const place = existsSync(join(device, 'queue')) ? device : dirname(device)
  const facts: Record<string, string> = { name: basename(place) }
  for (const [key, file] of Object.entries({
    model: 'device/model',
    requests: 'queue/nr_requests',
    largestRequestKiB: 'queue/max_sectors_kb',
    scheduler: 'queue/scheduler',
    rotational: 'queue/rotational',
    writeCache: 'queue/write_cache',
  })) {
    try {
      facts[key] = readFileSync(join(place, file), 'utf8').trim()
    } catch {
      // Virtual disks have no model, and other attributes depend on the kernel version.
    }
  }
  return facts
}
