/** Loses the ring of an engine and prints what its file says of itself: before, after, and after the close. */

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
const said: string[] = [file.backend]
for (const fd of rings()) if (!others.has(fd)) closeSync(fd)
// The read that finds the ring gone may fail as lost.
await file.read(new Uint8Array(4096), { position: 0 }).catch(() => {})
said.push(file.backend)
const { bytesRead, receipt } = await file.read(new Uint8Array(4096), { position: 0 })
await file.close()
said.push(file.backend)
console.log(JSON.stringify({ said, bytesRead, backend: receipt.backend, direct: file.direct }))
// The descriptor of the ring was closed behind the back of its owner, who would close it again.
process.exit(0)
