/**
 * Reads through an engine of three threads. Prints how many threads moved bytes during the reads, and after it was closed: a
 * process of its own has no others.
 *
 *   node threads.ts FILE
 */

import { readdirSync, readFileSync } from 'node:fs'
import { Engine } from '../../index.ts'

/** Threads of this process that move bytes for engines without a ring. */
function ioThreads(): number {
  const tasks = readdirSync('/proc/self/task')
  return tasks.filter((task) => readFileSync(`/proc/self/task/${task}/comm`, 'utf8').startsWith('deepring-io')).length
}

const engine = new Engine({ backend: 'threads', threads: 3 })
const file = await engine.open(process.argv[2]!)
const memory = engine.allocate(64 * 4096)
const positions = Array.from({ length: 64 }, (_, index) => index * 4096)
await Promise.all(positions.map((position) => file.read(memory, { position, offset: position, length: 4096 })))
const during = ioThreads()
await file.close()
await engine.close()
console.log(JSON.stringify({ during, after: ioThreads() }))
