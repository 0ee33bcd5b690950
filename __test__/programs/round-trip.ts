/** Writes and reads a file in several ways, says nothing, and ends by itself. */

import { open } from '../../index.ts'
import { AioHandle, aioRead, aioReadSync, aioWrite } from '../../lib/aio/index.ts'

const path = process.argv[2] as string
const bytes = new Uint8Array(1_000_001).fill(7)
await aioWrite(bytes, path, { validate: true })
await aioRead(bytes, path, { validate: true })
aioReadSync(bytes, path, { validate: true })
const handle = new AioHandle()
handle.asyncPread(bytes, path)
await handle.wait()
const file = await open(path)
await file.read(bytes, { position: 0 })
await file.close()
