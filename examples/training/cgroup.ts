/** A cgroup that limits the memory of a process: {@link MemoryLimit}. */

import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import process from 'node:process'

/** Together two seconds: longer than a process that was killed takes to be gone. */
const REMOVE_RETRIES = 100
const REMOVE_RETRY_MS = 20

/** The files of a cgroup, in each version: what limits its memory, and what counts the processes that this has killed. */
const FILES = {
  2: { limit: 'memory.max', events: 'memory.events' },
  1: { limit: 'memory.limit_in_bytes', events: 'memory.oom_control' },
} as const

/** A cgroup whose children can have a limit of memory. */
interface Parent {
  readonly version: keyof typeof FILES
  readonly directory: string
}

export class MemoryLimit {
  readonly directory: string
  readonly #events: string
  #removed = false

  /** Makes a cgroup below that of this process, or beside it, or above. Throws an error that says why there is none. */
  constructor(bytes: number) {
    const { version, directory } = parent()
    const { limit, events } = FILES[version]
    this.directory = join(directory, `deepring-training-${process.pid}`)
    this.#events = join(this.directory, events)
    mkdirSync(this.directory)
    process.on('exit', () => this.remove())
    try {
      writeFileSync(join(this.directory, limit), String(bytes))
    } catch (error) {
      this.remove()
      throw error
    }
  }

  /** How many processes the kernel has killed because of the limit. */
  get kills(): number {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(this.#events, 'utf8'))?.[1] ?? 0)
  }

  /** Once its processes have ended. */
  remove(): void {
    for (let tries = 1; !this.#removed; tries++) {
      try {
        rmdirSync(this.directory)
        this.#removed = true
      } catch (error) {
        if (tries === REMOVE_RETRIES) throw error
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, REMOVE_RETRY_MS)
      }
    }
  }
}

/** Moves this process into a cgroup. */
export function joinCgroup(directory: string): void {
  writeFileSync(join(directory, 'cgroup.procs'), '0')
}

/** The cgroup of this process, or the nearest above it, whose children can have a limit of memory. */
function parent(): Parent {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
  const cgroups = readFileSync('/proc/self/cgroup', 'utf8')
  // Where version 1 controls memory, version 2 does not.
  const found = unified(mounts, cgroups) ?? older(mounts, cgroups)
  if (found === undefined) throw new Error('no cgroup controls memory here')
  return found
}

/** Of version 2. */
function unified(mounts: string, cgroups: string): Parent | undefined {
  const mount = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(mounts)?.[1]
  const own = /^0::(\/.*)$/m.exec(cgroups)?.[1]
  if (mount === undefined || own === undefined) return undefined
  for (let path = own; ; path = dirname(path)) {
    const directory = join(mount, path)
    if (controllersOf(directory).includes('memory')) return { version: 2, directory }
    if (path === '/') return undefined
  }
}

/** Of version 1. */
function older(mounts: string, cgroups: string): Parent | undefined {
  const mount = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup \S+ (?:\S+,)?memory(?:,|$)/m.exec(mounts)?.[1]
  const own = /^\d+:(?:[^:]+,)?memory(?:,[^:]+)?:(\/.*)$/m.exec(cgroups)?.[1]
  return mount === undefined || own === undefined ? undefined : { version: 1, directory: join(mount, own) }
}

function controllersOf(directory: string): string[] {
  return readFileSync(join(directory, 'cgroup.subtree_control'), 'utf8').trim().split(' ')
}
