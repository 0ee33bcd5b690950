/** Queues writes and never waits for them: the process must end by itself, but not before they are done. */

import { AioHandle } from '../../lib/aio/index.ts'

const paths = process.argv.slice(2)
const handle = new AioHandle()
for (const path of paths) handle.asyncPwrite(new Uint8Array(10_000_001).fill(7), path)
Object.assign(globalThis, { kept: handle })
