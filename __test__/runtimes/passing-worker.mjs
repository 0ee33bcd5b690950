// A worker that does some work and ends in one of several ways.

import { parentPort, workerData } from 'node:worker_threads'
import process from 'node:process'
import { allocate, Engine, open } from 'deepring'
import { aioRead, aioWrite } from 'deepring/aio'
import { coded, misplaced } from './coded.mjs'

const { path, number, end } = workerData
const LENGTH = 60_008
const engine = number % 3 === 0 ? new Engine({ queueDepth: 4 }) : undefined
const file = await (engine?.open(path, 'w+') ?? open(path, 'w+'))
const out = allocate(LENGTH)
out.set(coded(number, 0, 0, LENGTH))
const writes = [file.write(out, { position: 0 })]
for (let i = 1; i < 8; i += 1) writes.push(file.write(coded(number, 0, i * LENGTH, LENGTH), { position: i * LENGTH }))
await Promise.all(writes)
await file.sync()
const back = new Uint8Array(8 * LENGTH)
await aioRead(back, path)
let fault = misplaced(back, number, [0], 0)
await aioWrite(back, `${path}-copy`, { validate: true })
const reading = file.read(out, { position: LENGTH })
if (end === 'closing') {
  await reading
  fault ??= misplaced(out, number, [0], LENGTH)
  await file.close()
  await engine?.close()
}
// A worker's port has no origin.
// oxlint-disable-next-line unicorn/require-post-message-target-origin
parentPort.postMessage(fault ?? 'right')
if (end === 'exit') process.exit(0)
if (end === 'throw') throw new Error('on purpose')
// Otherwise it ends by itself, with the file open, when the read is done.
