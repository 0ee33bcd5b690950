/**
 * `Engine`: limits, the default engine, `info`, `stats`, closing, and what happens to engines and files that are
 * dropped.
 */

import { truncateSync, writeFileSync } from 'node:fs'
import { inspect } from 'node:util'
import test from 'ava'
import { allocate, Engine, FileHandle, info, open, stats } from '../index.ts'
import { AioHandle } from '../lib/aio/index.ts'
import { collectUntil } from './collect.ts'
import {
  backends,
  contents,
  engineOn,
  makeScratch,
  openDescriptors,
  pattern,
  pause,
  rejected,
  same,
  testOnEachBackend,
  type Backend,
} from './harness.ts'

const scratch = makeScratch()

test('info describes the default engine and why it runs so', async (t) => {
  const found = await info()
  t.true(backends.includes(found.backend))
  t.true(found.reason.length > 0)
  t.regex(found.kernel, /^\d+\.\d+/)
  t.regex(found.version, /^\d+\.\d+\.\d+/)
  t.true(Array.isArray(found.flags))
  for (const key of ['queueDepth', 'blockSize', 'inFlightBytes', 'maxQueued'] as const) t.true(found[key] > 0, key)
  t.is(found.blockSize % 4096, 0)
  t.true(found.inFlightBytes >= found.blockSize)
  t.is(found.path, undefined)
  t.true(['always', 'madvise', 'never', 'unknown'].includes(found.hugePages), found.hugePages)
})

test('info of a path describes direct I/O there', async (t) => {
  const { path } = await info(scratch.folder)
  t.truthy(path)
  t.is(path?.path, scratch.folder)
  t.true((path?.fileSystem ?? '').length > 0)
  t.is(path?.direct, true, 'the tests need a directory that takes direct I/O')
  t.true((path?.offsetAlignment ?? 0) >= 512)
  t.true((path?.memoryAlignment ?? 0) >= 1)
})

testOnEachBackend(
  'an engine has the limits of its options',
  async (t, engine, backend) => {
    const found = await engine.info()
    t.is(found.backend, backend)
    t.is(found.queueDepth, 7)
    t.is(found.blockSize, 12_288, 'rounded up to whole file-system blocks')
    t.is(found.inFlightBytes, 1 << 20)
    t.is(found.maxQueued, 1000)
  },
  { queueDepth: 7, blockSize: 10_000, inFlightBytes: 1 << 20, maxQueued: 1000 },
)

testOnEachBackend(
  'an engine that ignores profiles says so, of itself and of a path',
  async (t, engine, backend) => {
    const { profile, path } = await engine.info(scratch.folder)
    const reason = backend === 'node' ? 'node:fs has no window to search for' : "the engine's options say so"
    for (const each of [profile, path?.profile]) {
      t.deepEqual([each?.used, each?.path, each?.reason], [false, undefined, reason])
    }
    t.throws(() => new Engine({ profile: 'off' as unknown as boolean }), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  },
  { profile: false },
)

testOnEachBackend(
  'blocks and bytes in flight never exceed the limits',
  async (t, engine) => {
    const file = await engine.open(scratch.file(pattern(3_000_000)))
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => file.read(engine.allocate(200_000), { position: i * 28_000 })),
    )
    const { inFlightMax, inFlightBytesMax, inFlight, inFlightBytes, queued } = engine.stats()
    t.true(inFlightMax > 0 && inFlightMax <= 4, `${inFlightMax} blocks`)
    t.true(inFlightBytesMax > 0 && inFlightBytesMax <= 4 * 16_384 + 8192, `${inFlightBytesMax} bytes`)
    t.deepEqual([inFlight, inFlightBytes, queued], [0, 0, 0])
    await file.close()
  },
  { queueDepth: 4, blockSize: 16_384, inFlightBytes: 65_536 },
)

testOnEachBackend(
  'a request beyond maxQueued is refused with a typed error, and the others continue',
  async (t, engine) => {
    const file = await engine.open(scratch.file(pattern(1_000_000)))
    const reads = Array.from({ length: 500 }, (_, i) => file.read(new Uint8Array(2000), { position: i * 2000 }))
    const outcomes = await Promise.allSettled(reads)
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected')
    t.true(refused.length > 0 && refused.length < 500, `${refused.length} refused`)
    for (const { reason } of refused) t.is((reason as { code: string }).code, 'ERR_DEEPRING_QUEUE_FULL')
    t.is((await file.read(new Uint8Array(2000), { position: 0 })).bytesRead, 2000)
    await file.close()
  },
  { queueDepth: 1, maxQueued: 16 },
)

for (const window of ['auto', 'fixed'] as const)
  test(`a window that is ${window} is reported, within its bounds`, async (t) => {
    const engine = new Engine({ window, inFlightBytes: 2 << 20, blockSize: 65_536, queueDepth: 9 })
    try {
      const path = scratch.file(pattern(1 << 20))
      const opened = await engine.open(path, 'r', { priority: 'background' })
      const memory = engine.allocate(1 << 20)
      for (const priority of ['latency', 'throughput', 'background', undefined] as const)
        t.is((await opened.read(memory, { position: 0, priority })).bytesRead, 1 << 20)
      const found = await engine.info(path)
      t.is(found.window, window)
      const [used, ...others] = engine.stats().windows
      t.deepEqual(others, [])
      t.deepEqual(found.path?.window, used)
      for (const size of [used?.read, used?.write]) {
        t.true(size !== undefined && size.sharedBytes <= size.bytes && size.bytes <= 2 << 20 && size.blocks <= 9)
        if (window === 'fixed') t.like(size, { bytes: 2 << 20, sharedBytes: 2 << 20 })
      }
    } finally {
      await engine.close()
    }
  })

test('stats count requests and their outcomes', async (t) => {
  const engine = new Engine()
  const file = await engine.open(scratch.file(pattern(10_000)))
  const before = engine.stats()
  await file.read(new Uint8Array(10_000), { position: 0 })
  await t.throwsAsync(file.read(new Uint8Array(10_001), { position: 0, exact: true }))
  const after = engine.stats()
  t.true(after.submitted >= before.submitted + 2)
  t.true(after.completed >= before.completed + 1)
  t.is(after.failed, before.failed + 1)
  t.true(after.readBytes >= before.readBytes + 10_000)
  t.true(after.latency.count > before.latency.count)
  t.true(after.latency.minUs <= after.latency.p50Us && after.latency.p50Us <= after.latency.maxUs)
  for (const [key, value] of Object.entries(after))
    if (!['latency', 'classes', 'windows'].includes(key)) t.true(Number.isFinite(value), key)
  await engine.close()
})

test('what is queued is all that has not settled, also what the device has', async (t) => {
  const engine = new Engine({ queueDepth: 1 })
  const path = scratch.path()
  writeFileSync(path, '')
  truncateSync(path, 16 << 20)
  const file = await engine.open(path)
  const memory = Array.from({ length: 10 }, () => engine.allocate(16 << 20))
  const reads = memory.map((each) => file.read(each, { position: 0 }))
  // The first ones may be over by now.
  const { queued, inFlight, completed } = engine.stats()
  t.true(queued <= 10 && queued + completed >= 10 && inFlight <= 1)
  t.true(queued > inFlight)
  await Promise.all(reads)
  t.is(engine.stats().queued, 0)
  await engine.close()
})

test('an engine shows what it is', async (t) => {
  t.is(inspect(Engine.default).replace(/\d+ }$/, 'n }'), 'Engine { default: true, closed: false, files: n }')
  const engine = new Engine()
  await engine.open(scratch.file('abc'))
  t.is(inspect(engine), 'Engine { default: false, closed: false, files: 1 }')
  await engine.close()
  t.is(inspect(engine), 'Engine { default: false, closed: true, files: 0 }')
})

test('there is one default engine, the functions use it, and it cannot be closed', async (t) => {
  t.is(Engine.default, Engine.default)
  const before = stats().submitted
  const file = await Engine.default.open(scratch.file('abc'))
  await file.read(allocate(3), { position: 0 })
  t.true(stats().submitted > before)
  await file.close()
  await rejected(t, () => Engine.default.close(), 'ERR_DEEPRING_INVALID')
  await t.notThrowsAsync(info())
})

testOnEachBackend('closing an engine closes its files after their requests and refuses new work', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w+')
  const writing = file.write(pattern(5_000_000), { position: 0 })
  const closing = engine.close()
  t.is((await writing).bytesWritten, 5_000_000)
  await closing
  await rejected(t, () => file.read(new Uint8Array(1), { position: 0 }), 'ERR_DEEPRING_CLOSED')
  await t.notThrowsAsync(file.close())
  await rejected(t, () => engine.open(path), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => engine.info(), 'ERR_DEEPRING_CLOSED')
  t.throws(() => engine.allocate(1), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => engine.allocateUnsafe(1), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => engine.allocateTensor('U8', [1]), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => engine.stats(), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => engine.trim(), { code: 'ERR_DEEPRING_CLOSED' })
  await t.notThrowsAsync(engine.close())
})

test('an open in progress when its engine closes leaves no file open', async (t) => {
  const engine = new Engine()
  const opening = engine.open(scratch.file('abc'))
  await engine.close()
  const file = await opening
  t.true(file instanceof FileHandle)
  await rejected(t, () => file.stat(), 'ERR_DEEPRING_CLOSED')
})

test('await using closes an engine', async (t) => {
  let kept: Engine
  {
    await using engine = new Engine()
    kept = engine
  }
  t.throws(() => kept.stats(), { code: 'ERR_DEEPRING_CLOSED' })
})

/** The codes of deepring's warnings from now on. */
function listen(): { codes: string[]; stop: () => void } {
  const codes: string[] = []
  const listener = (warning: Error & { code?: string }): void => {
    if (warning.name === 'DeepringWarning') codes.push(warning.code ?? '')
  }
  process.on('warning', listener)
  return { codes, stop: () => process.off('warning', listener) }
}

async function dropFile(path: string): Promise<void> {
  await open(path)
}

function dropEngine(): void {
  void new Engine()
}

test.serial('a file that is dropped open is closed, with a warning', async (t) => {
  const { codes, stop } = listen()
  const path = scratch.file('abc')
  await dropFile(path)
  t.true(await collectUntil(() => codes.length > 0))
  for (let i = 0; i < 100 && openDescriptors(path) > 0; i += 1) await pause(10)
  t.is(openDescriptors(path), 0)
  t.deepEqual(codes, ['DEEPRING_FILE_LEAKED'])
  stop()
})

test.serial('an engine that is dropped open is closed, with a warning', async (t) => {
  const { codes, stop } = listen()
  dropEngine()
  t.true(await collectUntil(() => codes.length > 0))
  t.deepEqual(codes, ['DEEPRING_ENGINE_LEAKED'])
  stop()
})

test.serial('an engine that is used only through its files is not collected', async (t) => {
  const { codes, stop } = listen()
  const path = scratch.file('abc')
  const openOnNewEngine = (): Promise<FileHandle> => new Engine().open(path)
  const file = await openOnNewEngine()
  t.false(await collectUntil(() => codes.length > 0, 30))
  t.is((await file.read(new Uint8Array(3), { position: 0 })).bytesRead, 3)
  await file.engine.close()
  stop()
})

/** Starts slow writes, by file and by path, and drops all references. */
async function startAndDrop(backend: Backend, path: string, bytes: Uint8Array): Promise<{ writing: Promise<unknown> }> {
  const engine = engineOn(backend, { queueDepth: 1, blockSize: 4096 })
  const file = await engine.open(path, 'w')
  new AioHandle({ engine }).asyncPwrite(bytes, `${path}-by-path`)
  return { writing: file.write(bytes, { position: 0 }) }
}

for (const backend of backends) {
  test.serial(`requests in flight on a dropped engine finish before the engine ends (${backend})`, async (t) => {
    const { codes, stop } = listen()
    const path = scratch.path()
    const bytes = pattern(4_000_000)
    const { writing } = await startAndDrop(backend, path, bytes)
    await collectUntil(() => false, 10)
    await t.notThrowsAsync(writing)
    t.true(await collectUntil(() => codes.includes('DEEPRING_ENGINE_LEAKED')))
    t.deepEqual(codes.toSorted(), ['DEEPRING_ENGINE_LEAKED', 'DEEPRING_FILE_LEAKED'])
    t.true(same(contents(path), bytes))
    t.true(same(contents(`${path}-by-path`), bytes))
    stop()
  })
}
