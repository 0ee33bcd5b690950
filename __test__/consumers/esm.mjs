// Uses the installed package by `import`: writes a file into the given directory, reads it back in both ways, and prints
// as JSON which backend moved the bytes.

import { rmSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { allocate, DeepringError, open } from 'deepring'
import { aioRead, aioWrite } from 'deepring/aio'
import { openCheckpoints } from 'deepring/checkpoint'
import { openSafetensors, saveSafetensors } from 'deepring/safetensors'

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

await saveSafetensors(path, { weights: { dtype: 'U8', shape: [1 << 20], data: weights } })
const model = await openSafetensors(path)
const { data } = await model.tensor('weights')
await model.close()
if (!data.every((byte) => byte === 42)) throw new Error('the model returned other bytes')
rmSync(path)

if (receipt.backend === 'node') {
  // Over node:fs, checkpoints are refused.
  const refusal = await openCheckpoints(path, { create: true }).catch((error) => error)
  if (refusal.code !== 'ERR_DEEPRING_UNSUPPORTED') throw refusal
} else {
  const store = await openCheckpoints(path, { create: true })
  const { number } = await store.save({ weights: { dtype: 'U8', shape: [1 << 20], data: weights } })
  const checkpoint = await store.open(number)
  const kept = await checkpoint.tensor('weights')
  if (!kept.data.every((byte) => byte === 42)) throw new Error('the checkpoint returned other bytes')
  await checkpoint.close()
  await store.close()
  rmSync(path, { recursive: true })
}

const failure = await open(path).catch((error) => error)
if (!(failure instanceof DeepringError) || failure.code !== 'ENOENT') throw failure
console.log(JSON.stringify({ node: process.version, backend: receipt.backend }))
