// A worker that reads and writes without end, to be terminated. It counts its requests in flight in shared memory, so
// that the program that ends it knows what it interrupts.

import { workerData } from 'node:worker_threads'
import { allocate, Engine, open } from 'deepring'
import { AioHandle, aioReadSync, aioWriteSync } from 'deepring/aio'

const { path, bytes, way, shared, content: filled } = workerData
const counts = new Int32Array(shared)

const LENGTH = 300_008
const written = new Uint8Array(filled)
let next = 0

/** A place in the file, and the bytes that belong there. */
function place() {
  next += 1
  const position = (next * 24_584) % (bytes - LENGTH)
  return { position, content: written.subarray(position, position + LENGTH) }
}

/** Counts a request from its start to its end. */
async function counted(request) {
  Atomics.add(counts, 0, 1)
  Atomics.add(counts, 1, 1)
  Atomics.notify(counts, 1)
  try {
    await request
  } finally {
    Atomics.sub(counts, 0, 1)
  }
}

async function readAndWrite(file, take) {
  const buffers = [take(LENGTH), new Uint8Array(LENGTH), take(LENGTH)]
  for (;;) {
    const requests = buffers.map((buffer) => counted(file.read(buffer, { position: place().position })))
    for (let i = 0; i < 3; i += 1) {
      const { position, content } = place()
      // Memory that ends with this worker, as well as memory that stays.
      requests.push(counted(file.write(i === 0 ? content : content.slice(), { position })))
    }
    const memory = take(LENGTH)
    const { position, content } = place()
    memory.set(content)
    requests.push(counted(file.write(memory, { position })))
    await Promise.all(requests)
  }
}

const ways = {
  async default() {
    await readAndWrite(await open(path, 'r+'), allocate)
  },
  async own() {
    const engine = new Engine({ queueDepth: 2, blockSize: 65_536 })
    await readAndWrite(await engine.open(path, 'r+'), (size) => engine.allocate(size))
  },
  async opening() {
    for (;;) {
      const opened = Array.from({ length: 8 }, async () => {
        const file = await open(path, 'r+')
        await file.read(new Uint8Array(4096), { position: 0 })
        await file.sync()
        await file.close()
      })
      await Promise.all(opened.map(counted))
    }
  },
  async handle() {
    const handle = new AioHandle({ queueDepth: 1, blockSize: 65_536 })
    for (;;) {
      for (let i = 0; i < 4; i += 1) {
        handle.asyncPread(allocate(LENGTH), path, place().position)
        const { position, content } = place()
        handle.asyncPwrite(content, path, position)
      }
      await counted(handle.wait())
    }
  },
  async blocking() {
    const whole = new Uint8Array(bytes)
    for (;;) {
      Atomics.add(counts, 0, 1)
      Atomics.add(counts, 1, 1)
      Atomics.notify(counts, 1)
      aioReadSync(whole, path)
      aioWriteSync(written, path)
      Atomics.sub(counts, 0, 1)
      // The worker can be terminated only between two of them.
      await Promise.resolve()
    }
  },
}

await ways[way]()
