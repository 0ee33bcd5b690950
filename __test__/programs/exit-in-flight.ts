/** Ends by `process.exit` with many requests in flight: the process must end cleanly; the bytes do not matter. */

import { allocate, open } from '../../index.ts'
import { AioHandle } from '../../lib/aio/index.ts'

const path = process.argv[2] as string
const file = await open(path, 'w+')
const memory = allocate(64 << 20)
for (let i = 0; i < 8; i += 1) void file.write(memory, { position: i * memory.length })
new AioHandle().asyncPwrite(new Uint8Array(10_000_001), `${path}-other`)
await new Promise(setImmediate)
process.exit(0)
