// Does work of every kind, then nothing for a second, and reports what the engine's threads did in that second: CPU
// time, and how often they were run. A thread that was not run made no system call. The whole process is measured,
// too.

import process from 'node:process'
import { setTimeout as pause } from 'node:timers/promises'
import { allocate, Engine } from 'deepring'
import { AioHandle } from 'deepring/aio'
import { coded } from './coded.mjs'
import { expect, parameters, report, threads } from './host.mjs'

const { folder, idleMs } = parameters
const LENGTH = 300_008
const engines = [Engine.default, new Engine(), new Engine({ backend: 'threads' })]
// An open, idle file is as quiet as none. Held, because a collected file would be closed in the middle of the second.
const files = []
for (const [i, engine] of engines.entries()) {
  const path = `${folder}/idle-${i}`
  const file = await engine.open(path, 'w+')
  files.push(file)
  const content = coded(7, 0, 0, LENGTH)
  await Promise.all(Array.from({ length: 40 }, (_, at) => file.write(content, { position: at * LENGTH })))
  await file.sync()
  await Promise.all(Array.from({ length: 40 }, (_, at) => file.read(allocate(LENGTH), { position: at * LENGTH })))
  const handle = new AioHandle({ engine })
  handle.asyncPread(new Uint8Array(LENGTH), path, 0)
  await handle.wait()
}
await pause(300)

function ids(all) {
  return all.map(({ id }) => id).join()
}

function sum(all, key) {
  return all.reduce((total, thread) => total + thread[key], 0)
}

/** What the process did in a second without work. */
async function look() {
  const before = threads('deepring')
  const cpu = process.cpuUsage()
  await pause(idleMs)
  const { user, system } = process.cpuUsage(cpu)
  const after = threads('deepring')
  expect(ids(before) === ids(after), 'no thread begins or ends')
  return {
    cpuNs: sum(after, 'cpuNs') - sum(before, 'cpuNs'),
    runs: sum(after, 'runs') - sum(before, 'runs'),
    processUs: user + system,
    threads: after.length,
  }
}

const idle = await look()
// The planted bug: one request every ten milliseconds, which the check must detect.
const timer = setInterval(() => void files[0].read(new Uint8Array(8), { position: 0 }), 10)
const planted = await look()
clearInterval(timer)
await Promise.all(files.map((file) => file.close()))
expect(planted.runs > 10 && planted.cpuNs > 0, `the look would see an engine at work: ${JSON.stringify(planted)}`)
expect(idle.threads > engines.length, `each engine has threads: ${idle.threads}`)
expect(idle.runs === 0, `no thread of an idle engine wakes up: ${JSON.stringify(idle)}`)
expect(idle.cpuNs < 1_000_000, `an idle engine takes under 1 ms of CPU time: ${JSON.stringify(idle)}`)
report({ idle, planted })
