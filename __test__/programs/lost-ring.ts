/** Loses the ring of an engine and prints what a file reports: before, after, and after the close. */

import { closeSync, readdirSync, readlinkSync } from 'node:fs'
import { Engine } from '../../index.ts'

const rings = (): number[] =>
  readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[io_uring]'
      } catch {
        return false
      }
    })

const path = process.argv[2] as string
const others = new Set(rings())
const engine = new Engine({ backend: 'uring' })
const file = await engine.open(path)
const reported: string[] = [file.backend]
for (const fd of rings()) if (!others.has(fd)) closeSync(fd)
// The read during which the ring is lost can fail.
await file.read(new Uint8Array(4096), { position: 0 }).catch(() => {})
reported.push(file.backend)
const { bytesRead, receipt } = await file.read(new Uint8Array(4096), { position: 0 })
await file.close()
reported.push(file.backend)
console.log(JSON.stringify({ reported, bytesRead, backend: receipt.backend, direct: file.direct }))
// The engine does not know that its descriptor was closed, and would close it again.
process.exit(0)
