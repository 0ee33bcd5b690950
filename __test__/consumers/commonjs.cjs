'use strict'

// The same as esm.mjs by `require`, which works because the package has no top-level await.

const { rmSync } = require('node:fs')
const { join } = require('node:path')
const { allocate, open } = require('deepring')
const { AioHandle } = require('deepring/aio')
const { openCheckpoints } = require('deepring/checkpoint')
const { openSafetensors, saveSafetensors } = require('deepring/safetensors')

async function main() {
  const path = join(process.argv[2], `commonjs-${process.pid}.bin`)
  const weights = allocate(1 << 20).fill(42)

  const file = await open(path, 'w+')
  const { bytesWritten, receipt } = await file.write(weights, { position: 0 })
  await file.close()

  const handle = new AioHandle()
  handle.asyncPread(weights.fill(0), path)
  const settled = await handle.wait()
  await saveSafetensors(path, { weights: { dtype: 'U8', shape: [1 << 20], data: weights } })
  const model = await openSafetensors(path)
  const same = (await model.tensor('weights')).data.every((byte) => byte === 42)
  await model.close()
  rmSync(path)
  if (receipt.backend !== 'node') {
    // Over node:fs, checkpoints are refused.
    const store = await openCheckpoints(path, { create: true })
    const { number } = await store.save({ weights: { dtype: 'U8', shape: [1 << 20], data: weights } })
    await store.close()
    rmSync(path, { recursive: true })
    if (number !== 1) throw new Error('the checkpoint has another number')
  }
  if (!same || bytesWritten !== 1 << 20 || settled !== 1 || !weights.every((byte) => byte === 42))
    throw new Error('the file returned other bytes')
  console.log(JSON.stringify({ node: process.version, backend: receipt.backend }))
}

main()
