/**
 * How long the event loop stands still while a file of many tensors is opened, loaded, and all names are looked at, each in
 * one turn of the loop.
 */

import { openSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { collect } from './collect.ts'
import { parameters, type ModelParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'
import { StallMonitor, threadSeconds } from './stall.ts'

const { file, tensorBytes, warm } = parameters<ModelParameters & { warm: string }>()

// The functions are compiled, and the drive is awake.
await all(warm)
collect()
const monitor = await StallMonitor.start()
const before = threadSeconds()
const meter = new Meter()
const stalls = await all(file, monitor)
const outcome = meter.stop(tensorBytes, 1)
const mainSeconds = threadSeconds() - before
monitor.stop()
report({ ...outcome, ran: await ranByEngine(), extra: { ...stalls, mainSeconds } })

async function all(path: string, watched?: StallMonitor): Promise<Record<string, number>> {
  await using model = await openSafetensors(path)
  const openMs = (await watched?.take()) ?? 0
  using tensors = await model.load()
  const loadMs = (await watched?.take()) ?? 0
  let characters = 0
  for (const name of tensors.keys()) characters += name.length
  const walkMs = (await watched?.take()) ?? 0
  if (characters === 0) throw new Error('the tensors have no names')
  return { openMs, loadMs, walkMs }
}
