/**
 * What cannot be posted to another thread, and what can. Prints how each attempt ended, as JSON. Compiled code, for Nodes
 * that cannot run TypeScript.
 */

import { MessageChannel, Worker } from 'node:worker_threads'
import { allocate, Engine, open } from '../../dist/index.js'
import { AioHandle } from '../../dist/lib/aio/index.js'

const memory = allocate(4096).fill(3)
const { port1, port2 } = new MessageChannel()
const file = await open('/etc/hostname')
const transfer = [memory.buffer]
const attempts = {
  'structuredClone of memory, transferred': () => structuredClone(memory, { transfer }),
  'postMessage of memory, transferred': () => port1.postMessage(memory, transfer),
  'postMessage of memory, transferred by option': () => port1.postMessage(memory, { transfer }),
  'memory as workerData, transferred': () => new Worker('', { eval: true, workerData: memory, transferList: transfer }),
  'structuredClone of a file': () => structuredClone(file),
  'postMessage of a file': () => port1.postMessage({ file }),
  'structuredClone of an engine': () => structuredClone(Engine.default),
  'structuredClone of a handle': () => structuredClone(new AioHandle()),
}
const ended = {}
for (const [name, attempt] of Object.entries(attempts)) {
  try {
    attempt()
    ended[name] = 'done'
  } catch (error) {
    ended[name] = error.name
  }
}
const plain = new Uint8Array(8)
ended.copy = structuredClone(memory).every((byte) => byte === 3) && memory.byteLength === 4096
ended.others = structuredClone(plain, { transfer: [plain.buffer] }).byteLength === 8 && plain.byteLength === 0
port1.close()
port2.close()
await file.close()
console.log(JSON.stringify(ended))
