/**
 * Saves, loads, streams and keeps tensors, and disposes them. Prints what was seen, as JSON. Compiled code, for Nodes that
 * cannot run TypeScript.
 *
 *   node tensors-round-trip.mjs FILE
 */

import process from 'node:process'
import { openSafetensors, saveSafetensors } from '../../dist/lib/safetensors/index.js'

const [path = ''] = process.argv.slice(2)
const data = Array.from({ length: 20 }, (_, n) => Float32Array.from({ length: 3001 }, (__, i) => n * 10_000 + i))
const tensors = new Map(data.map((values, n) => [`t${n}`, { dtype: 'F32', shape: [values.length], data: values }]))
await saveSafetensors(path, tensors, { checksum: 'crc32c', align: 8 })
const seen = { right: 0, left: 0, released: 0 }

/** Counts a tensor that has its own values. */
const check = (tensor) => {
  const expected = data[Number(tensor.name.slice(1))]
  if (tensor.data.length === expected.length && tensor.data.every((value, i) => value === expected[i])) seen.right += 1
}
const model = await openSafetensors(path)
const loaded = await model.load(undefined, { groupBytes: 50_000, verify: true })
for (const tensor of loaded.values()) check(tensor)
const views = [...loaded.values()].map((tensor) => tensor.data)
loaded[Symbol.dispose]()
for (const view of views) seen.left += view.length

const kept = []
for await (const tensor of model.stream(undefined, { memory: 200_000 })) {
  check(tensor)
  if (kept.length < 3) kept.push(await tensor.keep())
}
for (const tensor of kept) {
  check(tensor)
  tensor[Symbol.dispose]()
  try {
    check(tensor)
  } catch (error) {
    if (error.code === 'ERR_DEEPRING_RELEASED') seen.released += 1
  }
}
await model.close()
console.log(JSON.stringify(seen))
