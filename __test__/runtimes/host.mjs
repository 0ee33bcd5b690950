// The runtime that a program finds itself in: what it is called, how its garbage collector is called, and how a program tells its result.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import process from 'node:process'
import { setTimeout as pause } from 'node:timers/promises'

/** `'node'`, `'bun'` or `'deno'`. */
export const host = globalThis.Bun ? 'bun' : globalThis.Deno ? 'deno' : 'node'

/** Threads of one engine at most: the driver, 4 helpers, and 8 for transfers where there is no ring. */
export const ENGINE_THREADS_MAX = 1 + 4 + 8

/** What the program was started with. */
export const parameters = process.argv[2] === undefined ? {} : JSON.parse(process.argv[2])

/** Collects garbage now, with everything that nobody holds. */
export function collect() {
  if (host === 'bun') globalThis.Bun.gc(true)
  else if (typeof globalThis.gc === 'function') globalThis.gc()
  else throw new Error('The runtime was started without --expose-gc')
}

/** Collects garbage and lets finalizers run, until `condition` holds; tells whether it came to hold within the time. */
export async function collectUntil(condition, limitMs = 20_000) {
  for (const until = performance.now() + limitMs; ;) {
    collect()
    await pause(5)
    if (condition()) return true
    if (performance.now() > until) return false
  }
}

/** Waits until `condition` holds; tells whether it came to hold within the time. */
export async function waitUntil(condition, limitMs = 20_000) {
  for (const until = performance.now() + limitMs; !condition();) {
    if (performance.now() > until) return false
    await pause(5)
  }
  return true
}

/** Fails the program unless `condition` holds. */
export function expect(condition, what) {
  if (!condition) throw new Error(`Expected: ${what}`)
}

/** Threads of this process whose name begins so: CPU time in nanoseconds, and how often each was given a CPU. */
export function threads(prefix) {
  const found = []
  for (const id of readdirSync('/proc/self/task')) {
    try {
      const read = (file) => readFileSync(`/proc/self/task/${id}/${file}`, 'utf8')
      const name = read('comm').trim()
      if (!name.startsWith(prefix)) continue
      const [cpuNs, , runs] = read('schedstat').split(' ').map(Number)
      found.push({ id, name, cpuNs, runs })
    } catch {
      // It ended while we looked.
    }
  }
  return found
}

/**
 * How many descriptors this process has open. Deno keeps two of each worker that was terminated or ended by process.exit after an await, with
 * deepring or without it, and opens sockets of its own at some time; such as deepring does not leave open by itself are left out there.
 */
export function descriptors() {
  const kept = host === 'deno' ? /^anon_inode:\[(eventfd|eventpoll)\]|^socket:/ : undefined
  return readdirSync('/proc/self/fd').filter((fd) => !kept?.test(linkOf(fd))).length
}

function linkOf(fd) {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    // The directory's own, closed by now.
    return ''
  }
}

/** Ends the program's output with its result. */
export function tell(result) {
  console.log(JSON.stringify(result))
}
