// Leases that are collected with their views end, and a view that is reachable keeps its lease.
//
//   swap-collected.ts DIRECTORY

import assert from 'node:assert/strict'
import process from 'node:process'
import { setTimeout } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { openSwap, type SwapStore } from '../../lib/swap/index.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

async function leak(store: SwapStore, name: string): Promise<void> {
  const lease = await store.get(name)
  assert.equal(lease.bytes[0], 7)
}

async function viewOf(store: SwapStore, name: string): Promise<Uint8Array> {
  const lease = await store.get(name)
  return lease.bytes
}

async function freed(store: SwapStore, leased: number): Promise<boolean> {
  for (let tries = 0; tries < 200; tries += 1) {
    collect()
    await setTimeout(10)
    if (store.stats().leased === leased) return true
  }
  return false
}

const [directory] = process.argv.slice(2) as [string]
const store = await openSwap(directory, { memory: 1 << 20, create: true })
await store.put('x', { dtype: 'U8', shape: [8192], data: new Uint8Array(8192).fill(7) })
await store.put('y', { dtype: 'U8', shape: [8192], data: new Uint8Array(8192).fill(7) })
await store.flush()
await leak(store, 'x')
const view = await viewOf(store, 'y')
assert.equal(store.stats().leased, 16_384)
assert.ok(await freed(store, 8192), 'the lease without views went back')
assert.equal(view[8191], 7)
assert.equal(store.stats().leased, 8192)
const changing = await store.getMut('x')
assert.equal(changing.bytes[8191], 7)
await changing.close()
await store.close()
console.log('what was collected went back')
