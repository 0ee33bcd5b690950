/** `signal`: aborting before, during and after an operation, and what becomes of the memory. */

import { getEventListeners } from 'node:events'
import test from 'ava'
import { Engine, info, open } from '../index.ts'
import { connect } from '../lib/core/completions.ts'
import { AioHandle, aioRead, aioWrite } from '../lib/aio/index.ts'
import { contents, makeScratch, openDescriptors, pattern, pause, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

/** The reason of a rejection, of any type. */
async function reasonOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise
  } catch (reason) {
    return reason
  }
  throw new Error('The promise was fulfilled')
}

test('a signal aborted before the call rejects with its reason, and nothing is touched', async (t) => {
  const path = scratch.file(pattern(1000))
  const file = await open(path, 'r+')
  const reason = { any: 'thing' }
  const signal = AbortSignal.abort(reason)
  const buffer = new Uint8Array(1000)
  const calls: (() => Promise<unknown>)[] = [
    () => file.read(buffer, { position: 0, signal }),
    () => file.write(buffer, { position: 0, signal }),
    () => file.sync({ signal }),
    () => file.datasync({ signal }),
    () => file.stat({ signal }),
    () => file.truncate(0, { signal }),
    () => open(path, 'w', { signal }),
    () => info(path, { signal }),
    () => aioRead(buffer, path, { signal }),
    () => aioWrite(buffer, path, { signal }),
    () => new AioHandle().pread(buffer, path, { signal }),
    () => new AioHandle().wait({ signal }),
  ]
  for (const call of calls) t.is(await reasonOf(call()), reason)
  await file.close()
  t.true(same(contents(path), pattern(1000)))
  t.true(buffer.every((byte) => byte === 0))
})

test('an abort without a reason rejects with an AbortError', async (t) => {
  const file = await open(scratch.file('abc'))
  const error = await t.throwsAsync(file.read(new Uint8Array(3), { position: 0, signal: AbortSignal.abort() }))
  t.is(error?.name, 'AbortError')
  await file.close()
})

testOnEachBackend(
  'aborting in the tick of the call drops the queued work',
  async (t, engine) => {
    const path = scratch.file(pattern(1_000_000))
    const file = await engine.open(path)
    const controller = new AbortController()
    const reads = Array.from({ length: 200 }, (_, i) =>
      file.read(new Uint8Array(5000), { position: i * 5000, signal: controller.signal }),
    )
    const reason = new Error('changed my mind')
    controller.abort(reason)
    for (const outcome of await Promise.allSettled(reads)) t.is(outcome.status === 'rejected' && outcome.reason, reason)
    t.is(engine.stats().inFlight, 0, 'nothing is at the device any more')
    t.is((await file.read(new Uint8Array(3), { position: 0 })).bytesRead, 3, 'the file is as usable as before')
    await file.close()
  },
  { queueDepth: 2, blockSize: 4096 },
)

testOnEachBackend(
  'aborting a long read rejects with the reason, once the memory is free again',
  async (t, engine) => {
    const path = scratch.file(pattern(30_000_000))
    const file = await engine.open(path)
    const memory = engine.allocate(30_000_000)
    const controller = new AbortController()
    const reading = file.read(memory, { position: 0, signal: controller.signal })
    await pause(1)
    const reason = Symbol('stop')
    controller.abort(reason)
    t.is(await reasonOf(reading), reason)
    t.is(engine.stats().inFlight, 0)
    // What the kernel had still been writing would show here.
    memory.fill(0)
    await pause(30)
    t.true(memory.every((byte) => byte === 0))
    await file.close()
  },
  // Block after block, so that it is long on any drive, however late the abort comes.
  { queueDepth: 1, blockSize: 4096 },
)

testOnEachBackend('aborting after the end changes nothing', async (t, engine) => {
  const file = await engine.open(scratch.file(pattern(10_000)))
  const controller = new AbortController()
  const { bytesRead } = await file.read(new Uint8Array(10_000), { position: 0, signal: controller.signal })
  controller.abort()
  t.is(bytesRead, 10_000)
  t.is((await file.read(new Uint8Array(10), { position: 0 })).bytesRead, 10)
  await file.close()
})

test('operations that share a signal add one listener to it, which is removed afterwards', async (t) => {
  const file = await open(scratch.file(pattern(100_000)))
  const { signal } = new AbortController()
  const reads = Array.from({ length: 100 }, (_, i) => file.read(new Uint8Array(1000), { position: i * 1000, signal }))
  t.is(getEventListeners(signal, 'abort').length, 1)
  await Promise.all(reads)
  t.is(getEventListeners(signal, 'abort').length, 0)
  await rejected(t, () => file.read(new Uint8Array(1000), { position: 99_999, signal }), 'ERR_DEEPRING_EOF')
  t.is(getEventListeners(signal, 'abort').length, 0)
  await file.close()
})

test('aborting one of two signals does not affect the operations of the other', async (t) => {
  const file = await open(scratch.file(pattern(100_000)))
  const [one, two] = [new AbortController(), new AbortController()]
  const doomed = Array.from({ length: 50 }, (_, i) =>
    file.read(new Uint8Array(1000), { position: i * 1000, signal: one.signal }),
  )
  const spared = Array.from({ length: 50 }, (_, i) =>
    file.read(new Uint8Array(1000), { position: i * 1000, signal: two.signal }),
  )
  one.abort()
  t.true((await Promise.allSettled(doomed)).every(({ status }) => status === 'rejected'))
  for (const [i, { buffer }] of (await Promise.all(spared)).entries())
    t.true(same(buffer, pattern(100_000).subarray(i * 1000, i * 1000 + 1000)))
  await file.close()
})

test('AbortSignal.timeout bounds an operation', async (t) => {
  const engine = new Engine({ queueDepth: 1, blockSize: 4096 })
  const file = await engine.open(scratch.file(pattern(20_000_000)))
  const reading = file.read(engine.allocate(20_000_000), { position: 0, signal: AbortSignal.timeout(1) })
  const error = await t.throwsAsync(reading)
  t.is(error?.name, 'TimeoutError')
  await engine.close()
})

test('an open that was aborted too late leaves no file open', async (t) => {
  const path = scratch.file('abc')
  const before = openDescriptors(path)
  for (let i = 0; i < 50; i += 1) {
    const controller = new AbortController()
    const opening = open(path, 'r', { signal: controller.signal })
    if (i % 2 === 0) await Promise.resolve()
    controller.abort()
    await t.throwsAsync(opening, { name: 'AbortError' })
  }
  // The file that had been opened is closed in the background.
  for (let i = 0; i < 100 && openDescriptors(path) > before; i += 1) await pause(10)
  t.is(openDescriptors(path), before)
})

test('what lends no memory rejects in the turn of the abort, before any answer can have come', async (t) => {
  const path = scratch.file(pattern(10_000))
  const file = await open(path, 'r+')
  const controller = new AbortController()
  const { signal } = controller
  const requests = [
    open(path, 'r', { signal }),
    info(path, { signal }),
    file.stat({ signal }),
    file.sync({ signal }),
    file.datasync({ signal }),
    file.truncate(10_000, { signal }),
  ]
  const reasons: unknown[] = []
  for (const request of requests) request.catch((reason: unknown) => void reasons.push(reason))
  const reading = file.read(new Uint8Array(10_000), { position: 0, signal })
  let readRejected = false
  reading.catch(() => (readRejected = true))
  controller.abort('no longer')
  // Answers are taken by callbacks of the event loop; these are only reactions.
  for (let i = 0; i < 10; i += 1) await Promise.resolve()
  t.deepEqual(
    reasons,
    Array.from(requests, () => 'no longer'),
  )
  t.false(readRejected, 'the memory of a read belongs to the engine until its record has come')
  t.is(await reasonOf(reading), 'no longer')
  await file.close()
  t.true(same(contents(path), pattern(10_000)))
})

test('an engine with an aborted open closes, and the file that comes late is closed', async (t) => {
  const path = scratch.file('abc')
  const before = openDescriptors(path)
  const engine = new Engine()
  const controller = new AbortController()
  const opening = engine.open(path, 'r', { signal: controller.signal })
  controller.abort()
  t.is(((await reasonOf(opening)) as Error).name, 'AbortError')
  await engine.close()
  for (let i = 0; i < 100 && openDescriptors(path) > before; i += 1) await pause(10)
  t.is(openDescriptors(path), before)
})

test.serial('any number of requests is canceled by one crossing', async (t) => {
  const file = await open(scratch.file(pattern(1_000_000)))
  const session = connect()
  const { cancel } = session
  const crossings: number[] = []
  session.cancel = (ids) => {
    crossings.push(ids.length)
    cancel.call(session, ids)
  }
  t.teardown(() => (session.cancel = cancel))
  const controller = new AbortController()
  const { signal } = controller
  const reads = Array.from({ length: 5000 }, (_, i) => file.read(new Uint8Array(100), { position: i * 100, signal }))
  controller.abort()
  const ended = await Promise.allSettled(reads)
  t.true(ended.every(({ status }) => status === 'rejected'))
  t.deepEqual(crossings, [5000])
  await file.close()
})
