// A consumer of the installed package in TypeScript, as a CommonJS module: TypeScript 5.8 and later allow it what Node allows.

import deepring = require('deepring')
import aio = require('deepring/aio')
import checkpoint = require('deepring/checkpoint')
import safetensors = require('deepring/safetensors')
import swap = require('deepring/swap')

export async function copy(from: string, to: string): Promise<number> {
  const source = await deepring.open(from)
  const { size } = await source.stat()
  const memory = deepring.allocateUnsafe(size)
  const { bytesRead }: { bytesRead: number } = await source.read(memory, { position: 0 })
  await source.close()
  const done: 0 = await aio.aioWrite(memory, to)
  return bytesRead + done
}

export async function names(path: string): Promise<string[]> {
  const model = await safetensors.openSafetensors(path)
  return [...model.names()]
}

export async function generations(path: string): Promise<number[]> {
  const store = await checkpoint.openCheckpoints(path)
  return store.list()
}

export async function swapped(path: string): Promise<string[]> {
  const store = await swap.openSwap(path, { memory: 1 << 20 })
  return store.names()
}
