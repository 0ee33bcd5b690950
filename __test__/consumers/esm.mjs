// Uses the installed package by `import`: writes a file into the given directory, reads it back in both ways, and prints
// as JSON which backend moved the bytes.

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { allocate, DeepringError, open } from 'deepring'
import { aioRead, aioWrite } from 'deepring/aio'

const path = join(process.argv[2], `esm-${process.pid}.bin`)
const weights = allocate(1 << 20).fill(42)

const file = await open(path, 'w+')
await file.write(weights, { position: 0 })
const { bytesRead, receipt } = await file.read(weights.fill(0), { position: 0 })
await file.close()
if (bytesRead !== 1 << 20 || !weights.every((byte) => byte === 42)) throw new Error('the file returned other bytes')

await aioWrite(weights, path, { validate: true })
await aioRead(weights.fill(0), path)
if (!weights.every((byte) => byte === 42)) throw new Error('aioRead returned other bytes')
rmSync(path)

const failure = await open(path).catch((error) => error)
if (!(failure instanceof DeepringError) || failure.code !== 'ENOENT') throw failure
console.log(JSON.stringify({ node: process.version, backend: receipt.backend }))
