// A hundred workers, some in parallel: each works on separate engines and on the shared one, and ends in one of four
// ways. All bytes must be right, and nothing must remain.

import { Worker } from 'node:worker_threads'
import { open } from 'deepring'
import { expect, parameters, report } from './host.mjs'
import { expectNothingLeft, footprint } from './leftovers.mjs'

const { folder, workers } = parameters
const SIDE_BY_SIDE = 4
const ENDS = ['closing', 'leaving', 'exit', 'throw']

let gone = 0

async function passOne(number) {
  const end = ENDS[number % ENDS.length]
  // Numbers of files are below 256. The program that started this one checks the files.
  const worker = new Worker(new URL('./passing-worker.mjs', import.meta.url), {
    workerData: { path: `${folder}/worker-${number}`, number, end },
  })
  const answer = await new Promise((resolve, reject) => {
    let message
    let error
    worker.on('message', (value) => (message = value))
    worker.on('error', (value) => (error = value))
    worker.on('exit', () => {
      if (error !== undefined && error.message !== 'on purpose') reject(error)
      else if (end === 'throw' && error === undefined) reject(new Error(`worker ${number} reported no error`))
      else resolve(message)
    })
  })
  expect(answer === 'right', `worker ${number} (${end}) finds what it wrote: ${answer}`)
  gone += 1
}

const file = await open(`${folder}/main`, 'w+')
await passOne(0)
const before = footprint()
let next = 1
await Promise.all(
  Array.from({ length: SIDE_BY_SIDE }, async () => {
    while (next < workers) await passOne(next++)
  }),
)
await expectNothingLeft(before)
await file.write(new Uint8Array(8), { position: 0 })
await file.close()
report({ workers: gone })
