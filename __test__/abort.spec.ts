/** `signal`: aborting before, during and after an operation, and what becomes of the memory. */

import { getEventListeners } from 'node:events'
import { readFile } from 'node:fs/promises'
import test, { type ExecutionContext } from 'ava'
import { allocate, Engine, info, open } from '../index.ts'
import { connect } from '../lib/core/completions.ts'
import { AioHandle, aioRead, aioWrite } from '../lib/aio/index.ts'
import { contents, makeScratch, openDescriptors, pattern, pause, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

/** All tests of this file run one after the other: where another one holds the event loop, a timer that is to abort a read comes when it has ended. */
const serialOnEachBackend = (...[title, body, limits]: Parameters<typeof testOnEachBackend>): void =>
  testOnEachBackend(title, body, limits, test.serial)

/** What a promise rejects with, of any type. */
async function rejectionOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise
  } catch (error) {
    return error
  }
  throw new Error('The promise was fulfilled')
}

/** Requires that a rejection is that of an operation which was aborted for this reason. */
function isAbort(t: ExecutionContext, error: unknown, reason: unknown): void {
  t.true(error instanceof Error)
  const { name, code, cause, message, stack = '' } = error as Error & { code?: unknown }
  t.deepEqual({ name, code, message }, { name: 'AbortError', code: 'ABORT_ERR', message: 'The operation was aborted' })
  t.true('cause' in (error as Error))
  t.is(cause, reason)
  t.true(stack.startsWith('AbortError: The operation was aborted'), stack)
}

test.serial('a signal aborted before the call rejects with an AbortError, and nothing is touched', async (t) => {
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
  for (const call of calls) isAbort(t, await rejectionOf(call()), reason)
  await file.close()
  t.true(same(contents(path), pattern(1000)))
  t.true(buffer.every((byte) => byte === 0))
})

test.serial('an aborted operation rejects with what node:fs rejects with', async (t) => {
  const path = scratch.file('abc')
  const file = await open(path)
  for (const signal of [AbortSignal.abort(), AbortSignal.abort(new Error('no')), AbortSignal.abort(null)]) {
    // oxlint-disable-next-line no-await-in-loop -- one reason at a time
    const expected = (await rejectionOf(readFile(path, { signal }))) as Error & { code: string }
    // oxlint-disable-next-line no-await-in-loop -- as above
    const error = (await rejectionOf(file.read(new Uint8Array(3), { position: 0, signal }))) as typeof expected
    t.is(error.name, expected.name)
    t.is(error.code, expected.code)
    t.is(error.message, expected.message)
    t.is(error.cause, expected.cause)
    t.is(error.cause, signal.reason)
  }
  await file.close()
})

test.serial('the stack of an AbortError leads to the await of the caller', async (t) => {
  const file = await open(scratch.file(pattern(1000)))
  const whoReads = async (signal: AbortSignal): Promise<void> => {
    await file.read(new Uint8Array(10), { position: 0, signal })
  }
  const controller = new AbortController()
  const reading = whoReads(controller.signal)
  controller.abort()
  t.regex(((await rejectionOf(reading)) as Error).stack ?? '', /whoReads/)
  await file.close()
})

serialOnEachBackend(
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
    const ended = await Promise.allSettled(reads)
    for (const outcome of ended) isAbort(t, outcome.status === 'rejected' && outcome.reason, reason)
    t.is(new Set(ended.map((outcome) => outcome.status === 'rejected' && outcome.reason)).size, 200, 'an error each')
    t.is(engine.stats().inFlight, 0, 'nothing is at the device any more')
    t.is((await file.read(new Uint8Array(3), { position: 0 })).bytesRead, 3, 'the file is as usable as before')
    await file.close()
  },
  { queueDepth: 2, blockSize: 4096 },
)

serialOnEachBackend(
  'an abort of thousands of requests settles at most 512 a turn, and all with one error',
  async (t, engine) => {
    const count = 5000
    const bytes = 1 << 20
    const file = await engine.open(scratch.file(pattern(bytes)))
    const memory = engine.allocate(bytes)
    const controller = new AbortController()
    let [settled, most, watching] = [0, 0, true]
    const settle = (): void => void (settled += 1)
    const reads = Array.from({ length: count }, () => {
      const reading = file.read(memory, { position: 0, signal: controller.signal })
      reading.then(settle, settle)
      return reading
    })
    await new Promise(setImmediate)
    const look = (): void => {
      most = Math.max(most, settled)
      settled = 0
      if (watching) setImmediate(look)
    }
    look()
    controller.abort()
    const outcomes = await Promise.allSettled(reads)
    watching = false
    t.true(most <= 512, `${most} in a turn`)
    const reasons = new Set(
      outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : [])),
    )
    t.is(reasons.size, 1)
    for (const reason of reasons) isAbort(t, reason, controller.signal.reason)
    const { canceled } = engine.stats()
    t.true(canceled > count / 2, `${canceled} canceled`)
    t.is(getEventListeners(controller.signal, 'abort').length, 0)
    t.is((await file.read(memory, { position: 0 })).bytesRead, bytes)
    await file.close()
  },
  { queueDepth: 1, blockSize: 4096 },
)

test.serial('requests with and without memory are aborted together', async (t) => {
  const engine = new Engine({ queueDepth: 1 })
  const file = await engine.open(scratch.file(pattern(1_000_000)))
  const controller = new AbortController()
  const { signal } = controller
  const stats = Array.from({ length: 2000 }, () => file.stat({ signal }))
  const reads = Array.from({ length: 20_000 }, () => file.read(new Uint8Array(100), { position: 0, signal }))
  controller.abort()
  const reasons = await Promise.allSettled([...stats, ...reads])
  t.true(reasons.every(({ status }) => status === 'rejected'))
  await file.close()
  await engine.close()
})

serialOnEachBackend(
  'aborting a long read rejects once the memory is free again',
  async (t, engine) => {
    const path = scratch.file(pattern(30_000_000))
    const file = await engine.open(path)
    const memory = engine.allocate(30_000_000)
    const controller = new AbortController()
    const reading = file.read(memory, { position: 0, signal: controller.signal })
    await pause(1)
    const reason = Symbol('stop')
    controller.abort(reason)
    isAbort(t, await rejectionOf(reading), reason)
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

serialOnEachBackend('aborting after the end changes nothing', async (t, engine) => {
  const file = await engine.open(scratch.file(pattern(10_000)))
  const controller = new AbortController()
  const { bytesRead } = await file.read(new Uint8Array(10_000), { position: 0, signal: controller.signal })
  controller.abort()
  t.is(bytesRead, 10_000)
  t.is((await file.read(new Uint8Array(10), { position: 0 })).bytesRead, 10)
  await file.close()
})

test.serial('operations that share a signal add one listener to it, which is removed afterwards', async (t) => {
  const file = await open(scratch.file(pattern(100_000)))
  const { signal } = new AbortController()
  const reads = Array.from({ length: 100 }, (_, i) => file.read(new Uint8Array(1000), { position: i * 1000, signal }))
  t.is(getEventListeners(signal, 'abort').length, 1)
  await Promise.all(reads)
  t.is(getEventListeners(signal, 'abort').length, 0)
  const options = { position: 99_999, exact: true, signal }
  await rejected(t, () => file.read(new Uint8Array(1000), options), 'ERR_DEEPRING_EOF')
  t.is(getEventListeners(signal, 'abort').length, 0)
  await file.close()
})

test.serial('aborting a transfer by path, with or without a comparison, rejects with an AbortError', async (t) => {
  const path = scratch.file(pattern(20_000_000))
  const engine = new Engine({ queueDepth: 1, blockSize: 4096 })
  for (const validate of [false, true]) {
    const controller = new AbortController()
    const { signal } = controller
    const calls: Promise<number>[] = [
      aioRead(allocate(20_000_000), path, { queueDepth: 1, blockSize: 4096, validate, signal }),
      new AioHandle({ engine }).pread(engine.allocate(20_000_000), path, { validate, signal }),
    ]
    const handle = new AioHandle({ engine })
    handle.asyncPread(engine.allocate(20_000_000), path, { validate })
    calls.push(handle.wait({ signal }))
    const reason = { validate }
    controller.abort(reason)
    // oxlint-disable-next-line no-await-in-loop -- one kind at a time
    for (const call of calls) isAbort(t, await rejectionOf(call), reason)
  }
  t.is(engine.stats().inFlight, 0)
  await engine.close()
})

test.serial('aborting one of two signals does not affect the operations of the other', async (t) => {
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

test.serial('AbortSignal.timeout bounds an operation', async (t) => {
  const engine = new Engine({ queueDepth: 1, blockSize: 4096 })
  const file = await engine.open(scratch.file(pattern(20_000_000)))
  const reading = file.read(engine.allocate(20_000_000), { position: 0, signal: AbortSignal.timeout(1) })
  const error = await t.throwsAsync(reading)
  t.is(error?.name, 'AbortError')
  t.is((error?.cause as Error | undefined)?.name, 'TimeoutError', 'the cause says that it was the time')
  await engine.close()
})

test.serial('an open that was aborted too late leaves no file open', async (t) => {
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

test.serial('what lends no memory rejects in the turn of the abort, before any answer can have come', async (t) => {
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
  const errors: unknown[] = []
  for (const request of requests) request.catch((error: unknown) => void errors.push(error))
  const reading = file.read(new Uint8Array(10_000), { position: 0, signal })
  let readRejected = false
  reading.catch(() => (readRejected = true))
  controller.abort('no longer')
  // Answers are taken by callbacks of the event loop; these are only reactions.
  for (let i = 0; i < 10; i += 1) await Promise.resolve()
  t.is(errors.length, requests.length)
  for (const error of errors) isAbort(t, error, 'no longer')
  t.false(readRejected, 'the memory of a read belongs to the engine until its record has come')
  isAbort(t, await rejectionOf(reading), 'no longer')
  await file.close()
  t.true(same(contents(path), pattern(10_000)))
})

test.serial('an engine with an aborted open closes, and the file that comes late is closed', async (t) => {
  const path = scratch.file('abc')
  const before = openDescriptors(path)
  const engine = new Engine()
  const controller = new AbortController()
  const opening = engine.open(path, 'r', { signal: controller.signal })
  controller.abort()
  isAbort(t, await rejectionOf(opening), controller.signal.reason)
  await engine.close()
  for (let i = 0; i < 100 && openDescriptors(path) > before; i += 1) await pause(10)
  t.is(openDescriptors(path), before)
})

test.serial('any number of requests is canceled by one crossing, which names none of them', async (t) => {
  const file = await open(scratch.file(pattern(1_000_000)))
  const session = connect()
  const { cancel } = session
  const crossings: number[] = []
  session.cancel = (ids, cancellation) => {
    crossings.push(ids.length)
    cancel.call(session, ids, cancellation)
  }
  t.teardown(() => (session.cancel = cancel))
  const controller = new AbortController()
  const { signal } = controller
  const reads = Array.from({ length: 5000 }, (_, i) => file.read(new Uint8Array(100), { position: i * 100, signal }))
  controller.abort()
  const ended = await Promise.allSettled(reads)
  t.true(ended.every(({ status }) => status === 'rejected'))
  t.deepEqual(crossings, [0])
  await file.close()
})

serialOnEachBackend(
  'of requests whose signals alternate, an abort ends those of one, whatever their numbers',
  async (t, engine) => {
    const bytes = pattern(1_000_000)
    const file = await engine.open(scratch.file(bytes))
    const [one, two] = [new AbortController(), new AbortController()]
    // Neighbors in threes, so that some numbers follow each other and some do not, in memory of each kind.
    const reads = Array.from({ length: 3000 }, (_, nth) => {
      const memory = nth % 5 === 0 ? engine.allocate(100) : new Uint8Array(100)
      const signal = [one.signal, two.signal, undefined][Math.floor(nth / 3) % 3]
      return file.read(memory, { position: nth * 100, signal })
    })
    await new Promise(setImmediate)
    one.abort()
    const outcomes = await Promise.allSettled(reads)
    for (const [nth, outcome] of outcomes.entries()) {
      if (outcome.status === 'fulfilled')
        t.true(same(outcome.value.buffer as Uint8Array, bytes.subarray(nth * 100, (nth + 1) * 100)))
      else isAbort(t, outcome.reason, one.signal.reason)
      if (Math.floor(nth / 3) % 3 !== 0) t.is(outcome.status, 'fulfilled', `${nth} is of another signal`)
    }
    t.true(outcomes.filter(({ status }) => status === 'rejected').length > 500)
    t.deepEqual(
      [one, two].map(({ signal }) => getEventListeners(signal, 'abort').length),
      [0, 0],
    )
    await file.close()
  },
  { queueDepth: 1, blockSize: 4096 },
)

serialOnEachBackend(
  'a call that blocks comes back while thousands of others end by an abort',
  async (t, engine) => {
    const path = scratch.file(pattern(1_000_000))
    const file = await engine.open(path)
    const controller = new AbortController()
    const { signal } = controller
    const reads = Array.from({ length: 5000 }, (_, nth) =>
      file.read(new Uint8Array(100), { position: nth * 100, signal }),
    )
    await new Promise(setImmediate)
    controller.abort()
    const memory = new Uint8Array(1_000_000)
    t.is(new AioHandle({ engine }).syncPread(memory, path), 1)
    t.true(same(memory, pattern(1_000_000)))
    t.is((await Promise.allSettled(reads)).length, 5000)
    await file.close()
  },
  { queueDepth: 1, blockSize: 4096 },
)

serialOnEachBackend('a signal of its own for each of many requests ends that one alone', async (t, engine) => {
  const file = await engine.open(scratch.file(pattern(1000)))
  for (let round = 0; round < 3; round += 1) {
    const controllers = Array.from({ length: 500 }, () => new AbortController())
    const reads = controllers.map(({ signal }) => file.read(new Uint8Array(1000), { position: 0, signal }))
    const doomed = 250
    controllers[doomed]?.abort(round)
    // oxlint-disable-next-line no-await-in-loop -- signals come and go
    const outcomes = await Promise.allSettled(reads)
    for (const [nth, outcome] of outcomes.entries()) if (nth !== doomed) t.is(outcome.status, 'fulfilled')
  }
  await file.close()
})
