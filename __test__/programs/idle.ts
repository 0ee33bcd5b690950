/** Does some work, then nothing for a second, and prints the CPU time of that second in microseconds. */

import { setTimeout as pause } from 'node:timers/promises'
import { open } from '../../index.ts'

const path = process.argv[2] as string
const file = await open(path, 'w+')
await file.write(new Uint8Array(1 << 20), { position: 0 })
await file.read(new Uint8Array(1 << 20), { position: 0 })
await pause(300)
const before = process.cpuUsage()
await pause(1000)
const { user, system } = process.cpuUsage(before)
console.log(user + system)
await file.close()
