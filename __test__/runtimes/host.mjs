// The runtime of a program: its name, how to call its garbage collector, and how a program reports its result.

import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import process from 'node:process'
import { setTimeout as pause } from 'node:timers/promises'

/** `'node'`, `'bun'` or `'deno'`. */
export const host = globalThis.Bun ? 'bun' : globalThis.Deno ? 'deno' : 'node'

/**
 * Threads of one engine at most, while nothing is stuck and its files are on one file system: the driver, 16 blocking
 * threads, and 8 for transfers without a ring.
 */
export const ENGINE_THREADS_MAX = 1 + 16 + 8

/** The parameters of the program. */
export const parameters = process.argv[2] === undefined ? {} : JSON.parse(process.argv[2])

/** Collects garbage now. */
export function collect() {
  if (host === 'bun') globalThis.Bun.gc(true)
  else if (typeof globalThis.gc === 'function') globalThis.gc()
  else throw new Error('The runtime was started without --expose-gc')
}

/** Collects garbage and lets finalizers run until `condition` is true. Returns false if the time runs out. */
export async function collectUntil(condition, limitMs = 20_000) {
  for (const until = performance.now() + limitMs; ;) {
    collect()
    await pause(5)
    if (condition()) return true
    if (performance.now() > until) return false
  }
}

/** Waits until `condition` is true. Returns false if the time runs out. */
export async function waitUntil(condition, limitMs = 20_000) {
  for (const until = performance.now() + limitMs; !condition();) {
    if (performance.now() > until) return false
    await pause(5)
  }
  return true
}

/** Fails the program unless `condition` is true. */
export function expect(condition, what) {
  if (!condition) throw new Error(`Expected: ${what}`)
}

/** Threads of this process whose name begins with `prefix`: CPU time in nanoseconds, and how often each was run. */
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
      // It has ended.
    }
  }
  return found
}

/**
 * The open descriptors of this process, each as what it leads to. With or without deepring, Deno keeps two of each worker
 * that was terminated or ended by process.exit after an await, and opens sockets at some time. On Deno, kinds of
 * descriptors that deepring never leaves open are left out.
 */
export function descriptors() {
  const kept = host === 'deno' ? /^anon_inode:\[(eventfd|eventpoll)\]|^socket:/ : undefined
  const links = readdirSync('/proc/self/fd').map(linkOf)
  return links.filter((link) => !kept?.test(link)).toSorted()
}

function linkOf(fd) {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    // The descriptor of the directory, closed by now.
    return ''
  }
}

/** Ends the program's output with its result. */
export function report(result) {
  console.log(JSON.stringify(result))
}
