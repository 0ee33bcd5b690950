/** What the kernel says of the machine, the container and a drive, for people and reports. */

import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { availableParallelism, cpus as processorsOf, totalmem } from 'node:os'
import { basename, dirname, join } from 'node:path'
import type { Info } from '../engine/info.ts'

/** What confines this process. A limit that there is not is absent. */
export interface Container {
  /** `none`, `strict` or `filter`; absent if the kernel does not say. */
  readonly seccomp?: string
  /** Bytes of memory of the control group, and of those above. */
  readonly memoryMaxBytes?: number
  /** Processors. */
  readonly cpus?: number
  /** Lines of `io.max`: a device and its limits each. */
  readonly io?: readonly string[]
}

/** The computer, and what runs this program. */
export interface Host {
  /** What the processor calls itself; absent if it does not. */
  readonly processor?: string
  /** Processors that this process can use. */
  readonly processors: number
  readonly memoryBytes: number
  readonly node: string
  readonly platform: string
  readonly architecture: string
}

/** What `deepring info --json` prints: the engine, the path, and what confines and carries them. */
export interface Machine extends Info {
  readonly container: Container
  readonly deviceQueue: Readonly<Record<string, string>>
  readonly host: Host
}

/** See {@link Machine}. */
export function machineOf(found: Info, path: string): Machine {
  return { ...found, container: containerOf(), deviceQueue: deviceFacts(path), host: hostOf() }
}

function hostOf(): Host {
  const processor = processorsOf()[0]?.model.trim()
  return {
    ...(processor === undefined || processor === '' || processor === 'unknown' ? {} : { processor }),
    processors: availableParallelism(),
    memoryBytes: totalmem(),
    node: process.version,
    platform: process.platform,
    architecture: process.arch,
  }
}

/** The first text that a file has; `undefined` if it can not be read. */
function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

/** Reads what confines this process. */
export function containerOf(): Container {
  const mode = /^Seccomp:\s*(\d)/m.exec(textOf('/proc/self/status') ?? '')?.[1]
  const seccomp = mode === undefined ? undefined : ['none', 'strict', 'filter'][Number(mode)]
  const folders = controlGroups()
  const memory = folders.map((folder) => Number(textOf(join(folder, 'memory.max')))).filter(Number.isFinite)
  const cpus = folders.flatMap((folder) => {
    const [quota, period] = (textOf(join(folder, 'cpu.max')) ?? '').split(' ').map(Number)
    const share = Number(quota) / Number(period)
    return Number.isFinite(share) ? [share] : []
  })
  const io = folders.flatMap((folder) =>
    (textOf(join(folder, 'io.max')) ?? '').split('\n').filter((line) => line !== ''),
  )
  return {
    ...(seccomp === undefined ? {} : { seccomp }),
    ...(memory.length === 0 ? {} : { memoryMaxBytes: Math.min(...memory) }),
    ...(cpus.length === 0 ? {} : { cpus: Math.min(...cpus) }),
    ...(io.length === 0 ? {} : { io }),
  }
}

/** The folders of the control group of this process and of all above it, in version 2. */
function controlGroups(): string[] {
  const path = /^0::(.*)$/m.exec(textOf('/proc/self/cgroup') ?? '')?.[1]
  if (path === undefined) return []
  const root = '/sys/fs/cgroup'
  const folders: string[] = []
  for (let folder = join(root, path); folder.startsWith(root); folder = dirname(folder)) folders.push(folder)
  return folders
}

/** What the kernel reports about the drive of a path; empty for file systems without one. */
export function deviceFacts(path: string): Record<string, string> {
  const number = statSync(path).dev
  // The encoding of new_encode_dev: the minor's low byte, twelve bits of major, the rest of the minor.
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
    // Virtual disks have no model, and other attributes depend on the kernel's version.
    const text = textOf(join(place, file))
    if (text !== undefined) facts[key] = text
  }
  return facts
}
