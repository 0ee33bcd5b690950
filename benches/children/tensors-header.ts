/**
 * The header of a file with as many tensors as the largest models: opened by deepring, or parsed by
 * `JSON.parse`; then all names are looked at. A process that watches its event loop is not the one
 * whose CPU counts, because that costs CPU a thousand times a second.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { openSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, peakBytes, report } from '../../lib/measure/meter.ts'
import { collect } from './collect.ts'
import { parameters } from './parameters.ts'
import { StallMonitor, threadSeconds } from './stall.ts'

const { file, warm, method, count, watched } = parameters<{
  file: string
  warm: string
  method: 'deepring' | 'JSON.parse'
  count: number
  watched: boolean
}>()
const look = method === 'deepring' ? openAndLook : parseAndLook

// The functions are compiled.
await look(warm)
collect()
const monitor = watched ? await StallMonitor.start() : undefined
// The peak begins anew.
writeFileSync('/proc/self/clear_refs', '5')
const residentBefore = residentBytes()
const meter = new Meter()
const { names, ...extra } = await look(file, monitor)
const outcome = meter.stop(1, 1)
monitor?.stop()
if (names !== count) throw new Error(`${names} tensors were found, not ${count}`)
report({ ...outcome, extra: { ...extra, grownBytes: peakBytes() - residentBefore } })

interface Look extends Record<string, number> {
  names: number
  /** CPU of the JavaScript thread while the file is opened. */
  openCpuMs: number
  /** The longest stall of the event loop in that time. */
  openStallMs: number
  /** The same of the look at all names. */
  walkStallMs: number
}

async function openAndLook(path: string, monitored?: StallMonitor): Promise<Look> {
  const before = threadSeconds()
  await using model = await openSafetensors(path)
  const openCpuMs = (threadSeconds() - before) * 1e3
  const openStallMs = (await monitored?.take()) ?? 0
  let found = 0
  for (const name of model.names()) if (name !== '') found += 1
  return { names: found, openCpuMs, openStallMs, walkStallMs: (await monitored?.take()) ?? 0 }
}

async function parseAndLook(path: string, monitored?: StallMonitor): Promise<Look> {
  const before = threadSeconds()
  await using handle = await open(path)
  const { buffer } = await handle.read(Buffer.alloc(8), 0, 8, 0)
  const length = Number(buffer.readBigUInt64LE(0))
  const { buffer: text } = await handle.read(Buffer.allocUnsafeSlow(length), 0, length, 8)
  const header = JSON.parse(text.toString('utf8')) as Record<string, unknown>
  const openCpuMs = (threadSeconds() - before) * 1e3
  const openStallMs = (await monitored?.take()) ?? 0
  let found = 0
  for (const name in header) if (name !== '__metadata__') found += 1
  return { names: found, openCpuMs, openStallMs, walkStallMs: (await monitored?.take()) ?? 0 }
}

function residentBytes(): number {
  const match = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  if (match === null) throw new Error('/proc/self/status has no VmRSS')
  return Number(match[1]) * 1024
}
