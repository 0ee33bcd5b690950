/** Leaves an engine, a file, memory and a handle open, with nothing in flight: the process must end by itself. */

import { allocate, Engine } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'

const path = process.argv[2] as string
const engine = new Engine()
const file = await engine.open(path, 'w+')
const memory = allocate(1 << 20)
await file.write(memory, { position: 0 })
const handle = new AioHandle()
handle.asyncPread(memory, path)
console.log(await handle.wait())
Object.assign(globalThis, { kept: [engine, file, memory, handle] })
