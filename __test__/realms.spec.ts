/** Signals, URLs, memory and options of another realm or library: taken by their shape, as node:fs does. */

import vm from 'node:vm'
import { AbortController as Polyfill } from 'abort-controller'
import test from 'ava'
import { JSDOM } from 'jsdom'
import { info, open } from '../index.ts'
import { AioHandle, aioRead } from '../lib/aio/index.ts'
import { makeScratch, rejected } from './harness.ts'

const scratch = makeScratch()
const { window } = new JSDOM('', { url: 'http://localhost', runScripts: 'outside-only' })
const context = vm.createContext({ AbortController, URL })

/** What a polyfill in a few lines has: no reason where none is given, and events of its own. */
class Minimal {
  aborted = false
  reason: unknown
  readonly listeners = new Set<() => void>()

  addEventListener(_type: string, listener: () => void): void {
    this.listeners.add(listener)
  }

  removeEventListener(_type: string, listener: () => void): void {
    this.listeners.delete(listener)
  }

  abort(reason?: unknown): void {
    this.aborted = true
    this.reason = reason
    for (const listener of this.listeners) listener()
  }
}

/** A signal, and how to abort it. */
interface Controller {
  readonly signal: AbortSignal
  abort(): void
}

const controllers: Record<string, () => Controller> = {
  'the runtime': () => new AbortController(),
  jsdom: () => new window.AbortController(),
  'the polyfill abort-controller': () => new Polyfill() as unknown as Controller,
  'a polyfill without reasons': () => {
    const signal = new Minimal()
    return { signal: signal as unknown as AbortSignal, abort: () => signal.abort() }
  },
  'a class of a context': () => {
    const made: unknown = vm.runInContext('new (class extends AbortController {})()', context)
    return made as Controller
  },
}

for (const [name, make] of Object.entries(controllers)) {
  test(`a signal of ${name} is taken, and aborts what waits`, async (t) => {
    const path = scratch.file(new Uint8Array(100_000))
    const { signal } = make()
    const file = await open(path, 'r+', { signal })
    await file.read(new Uint8Array(100), { position: 0, signal })
    await file.stat({ signal })
    await info(path, { signal })
    await aioRead(new Uint8Array(100_000), path, { signal })

    const controller = make()
    const reads = Array.from({ length: 100 }, () =>
      file.read(new Uint8Array(1000), { position: 0, signal: controller.signal }),
    )
    const opening = open(path, 'r', { signal: controller.signal })
    const handle = new AioHandle()
    handle.asyncPread(new Uint8Array(100), file)
    const waiting = handle.wait({ signal: controller.signal })
    controller.abort()
    for (const request of [...reads, opening, waiting]) {
      const error = await t.throwsAsync(request as Promise<unknown>, { any: true } as never)
      t.is((error as { name?: unknown } | undefined)?.name, 'AbortError')
      t.is((error as { code?: unknown }).code, 'ABORT_ERR')
      t.is((error as Error).cause, controller.signal.reason)
      t.true(error instanceof Error, 'of this realm')
    }
    await t.throwsAsync(file.read(new Uint8Array(1), { position: 0, signal: controller.signal }), {
      any: true,
    } as never)
    await file.close()
  })
}

test('what only looks like a signal at first sight is refused', async (t) => {
  const path = scratch.file('abc')
  for (const signal of [{}, { aborted: false }, { addEventListener() {} }, null, true, 'signal', Symbol('s')])
    await rejected(t, () => open(path, 'r', { signal } as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
})

test('a URL of jsdom or of a context names a file', async (t) => {
  const path = scratch.file('abc')
  const foreign = vm.runInContext(`new (class extends URL {})('file://${path}')`, context) as URL
  for (const url of [new window.URL(`file://${path}`), foreign, new URL(`file://${path}`)]) {
    const file = await open(url)
    t.is((await file.stat()).size, 3)
    await file.close()
  }
  await rejected(t, () => open(new window.URL('http://localhost/x')), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => open({ href: 'file:///x' } as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
})

test('memory and options of a context are taken', async (t) => {
  const file = await open(scratch.file('abc'))
  for (const source of [
    'new Uint8Array(3)',
    'new DataView(new ArrayBuffer(3))',
    'new Float32Array(0)',
    'new Uint8Array(new SharedArrayBuffer(3))',
    'new Uint8Array(new SharedArrayBuffer(3, { maxByteLength: 8 }))',
    "({ dtype: 'U8', shape: [3], data: new Uint8Array(3) })",
  ]) {
    const buffer = vm.runInContext(source, context) as Uint8Array
    const options = vm.runInContext('({ position: 0 })', context) as { position: number }
    await t.notThrowsAsync(file.read(buffer, options), source)
  }
  await file.close()
})
