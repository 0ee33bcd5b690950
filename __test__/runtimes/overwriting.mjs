// The traffic during which a process ends: many requests at once overwrite a file from end to end, again and again,
// while others read it. Before that, one file is written and awaited.

import { allocate, Engine, open } from 'deepring'
import { AioHandle } from 'deepring/aio'
import { code, coded } from './coded.mjs'

const LENGTH = 500_008

/** Starts the traffic. When the promise settles, the traffic runs and continues by itself. */
export async function startOverwriting({ path, kept, bytes }) {
  const done = await open(kept, 'w')
  await done.write(coded(5, 0, 0, LENGTH), { position: 0 })
  await done.sync()

  const engine = new Engine({ queueDepth: 4, blockSize: 131_072 })
  const handle = new AioHandle()
  const all = await Promise.all([open(path, 'r+'), engine.open(path, 'r+')])
  for (const file of all) {
    for (let position = 0; position + LENGTH <= bytes; position += LENGTH) {
      const memory = position % 3 === 0 ? allocate(LENGTH) : new Uint8Array(LENGTH)
      code(memory, 4, 1, position)
      void overwrite(file, memory, position)
      void reread(file, position)
    }
  }
  handle.asyncPread(new Uint8Array(bytes), path)
  handle.asyncPwrite(coded(4, 1, 0, LENGTH), path, 0)
  await new Promise((resolve) => {
    setImmediate(resolve)
  })
}

async function overwrite(file, memory, position) {
  for (;;) await file.write(memory, { position })
}

async function reread(file, position) {
  const memory = new Uint8Array(LENGTH)
  for (;;) await file.read(memory, { position })
}
