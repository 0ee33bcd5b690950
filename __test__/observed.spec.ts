/** What can be seen of requests: channels, debug lines, histograms, what is in flight, and advice. */

import { tracingChannel } from 'node:diagnostics_channel'
import { join } from 'node:path'
import { AsyncLocalStorage } from 'node:async_hooks'
import test from 'ava'
import { AioHandle } from '../lib/aio/index.ts'
import { allocate, doctor, Engine, inFlight, info, open, stats, type IoTrace, type Info, type Stats } from '../index.ts'
import { adviceOn } from '../lib/engine/doctor.ts'
import { makeScratch, pattern, rejected, testOnEachBackend } from './harness.ts'
import { run } from './packed.ts'

const scratch = makeScratch()
const channel = tracingChannel<unknown, IoTrace>('deepring:io')

interface Event {
  readonly name: string
  readonly trace: IoTrace
}

/** What comes over the channel while `work` runs. */
async function eventsOf(work: () => Promise<unknown>): Promise<Event[]> {
  const events: Event[] = []
  const on = (name: string) => (trace: IoTrace) => void events.push({ name, trace })
  const subscriber = {
    start: on('start'),
    end: on('end'),
    asyncStart: on('asyncStart'),
    asyncEnd: on('asyncEnd'),
    error: on('error'),
  }
  channel.subscribe(subscriber)
  try {
    await work()
  } finally {
    channel.unsubscribe(subscriber)
  }
  return events
}

test.serial('a request is traced from its start to its result', async (t) => {
  const path = scratch.file(pattern(10_000))
  const file = await open(path)
  let result: unknown
  const events = await eventsOf(async () => {
    result = await file.read(new Uint8Array(500), { position: 9800 })
  })
  t.deepEqual(
    events.map(({ name }) => name),
    ['start', 'end', 'asyncStart', 'asyncEnd'],
  )
  const [{ trace }] = events as [Event]
  t.true(
    events.every((event) => event.trace === trace),
    'one context for all',
  )
  t.deepEqual({ ...trace }, { call: 'read', path, position: 9800, bytes: 500, requests: 1, result: trace.result })
  t.is(trace.result, result)
  await file.close()
})

test.serial('an error is traced', async (t) => {
  const events = await eventsOf(() => rejected(t, () => open('/no/such/file'), 'ENOENT'))
  t.deepEqual(
    events.map(({ name }) => name),
    ['start', 'end', 'error', 'asyncStart', 'asyncEnd'],
  )
  const { call, path, error } = (events[2] as Event).trace
  t.is(call, 'open')
  t.is(path, '/no/such/file')
  t.is((error as { code?: unknown }).code, 'ENOENT')
})

test.serial('calls of all kinds are traced under the words that errors have', async (t) => {
  const path = scratch.path()
  const events = await eventsOf(async () => {
    const file = await open(path, 'w+')
    await file.write(allocate(8192), { position: 0 })
    await file.writev([new Uint8Array(3)], 5)
    await file.readMany(new Uint8Array(20), { positions: [0, 100], lengths: 10 })
    await file.datasync()
    await file.truncate(100)
    await file.stat()
    await file.checksum()
    await file.close()
    const handle = new AioHandle()
    handle.asyncPread(new Uint8Array(100), path)
    handle.asyncPread(new Uint8Array(100), path)
    await handle.wait()
  })
  const starts = events.filter(({ name }) => name === 'start').map(({ trace }) => trace)
  t.deepEqual(
    starts.map(({ call, bytes, requests }) => `${call} ${bytes} ${requests}`),
    [
      'open 0 1',
      'write 8192 1',
      'write 3 1',
      'read 20 1',
      'fdatasync 0 1',
      'ftruncate 0 1',
      'fstat 0 1',
      'read 0 1',
      'close 0 1',
      'wait 200 2',
    ],
  )
})

test.serial('a store that is bound to the start of a request is there in its continuation', async (t) => {
  const storage = new AsyncLocalStorage<string>()
  channel.start.bindStore(storage, ({ call }) => `span of ${call}`)
  const seen: (string | undefined)[] = []
  const look = (): void => void seen.push(storage.getStore())
  channel.asyncStart.subscribe(look)
  const file = await open(scratch.file('abc'))
  t.true(seen.length > 0)
  channel.asyncStart.unsubscribe(look)
  channel.start.unbindStore(storage)
  await file.close()
})

test.serial('without a subscriber the promise of a request is its own', async (t) => {
  const file = await open(scratch.file(pattern(100)))
  t.false(channel.hasSubscribers)
  t.is((await file.read(new Uint8Array(10), { position: 0 })).bytesRead, 10)
  await file.close()
})

test('NODE_DEBUG=deepring prints a line for each request', async (t) => {
  const path = scratch.file(pattern(1000))
  const program = join(import.meta.dirname, 'programs', 'debugged.ts')
  const quiet = await run(process.execPath, [program, path], scratch.folder)
  t.deepEqual([quiet.status, quiet.stderr], [0, ''])
  const { status, stderr } = await run(process.execPath, [program, path], scratch.folder, { NODE_DEBUG: 'deepring' })
  t.is(status, 0, stderr)
  const lines = stderr.trim().split('\n')
  t.true(
    lines.every((line) => line.startsWith('DEEPRING ')),
    stderr,
  )
  t.regex(lines[0] ?? '', /binding/)
  t.true(
    lines.some((line) => /: open '.*' in \d+\.\d{3} ms$/.test(line)),
    stderr,
  )
  t.true(
    lines.some((line) => line.includes(`: read '${path}' 100 bytes at 7 in `) && line.includes('direct:')),
    stderr,
  )
  t.true(
    lines.some((line) => /: open '\/no\/such\/file' in .* ms failed: DeepringError: ENOENT/.test(line)),
    stderr,
  )
})

testOnEachBackend('each class has a histogram of its latencies', async (t, engine) => {
  const file = await engine.open(scratch.file(pattern(1_000_000)))
  const memory = engine.allocate(4096)
  for (const priority of ['latency', 'latency', 'background'] as const)
    await file.read(memory, { position: 0, priority })
  await file.close()
  const { classes, latency } = engine.stats()
  t.deepEqual([classes.latency.count, classes.throughput.count, classes.background.count], [2, 0, 1])
  t.is(latency.count, 3)
  t.deepEqual([classes.throughput.upToUs, classes.throughput.counts, classes.throughput.sumUs], [[], [], 0])
  for (const { count, upToUs, counts, sumUs, minUs, maxUs, meanUs } of [classes.latency, classes.background]) {
    t.is(
      counts.reduce((sum, each) => sum + each, 0),
      count,
    )
    t.is(counts.length, upToUs.length)
    t.deepEqual(
      [...upToUs].toSorted((a, b) => a - b),
      upToUs,
    )
    t.true(upToUs[0]! >= minUs && upToUs.at(-1)! >= maxUs && upToUs.at(-1)! <= maxUs * (17 / 16))
    t.true(Math.abs(sumUs - meanUs * count) < 1)
  }
  t.is(latency.maxUs, Math.max(classes.latency.maxUs, classes.background.maxUs))
})

test.serial('what is in flight is listed, the oldest first', async (t) => {
  const path = scratch.file(pattern(100_000))
  const file = await open(path)
  t.deepEqual(inFlight(), [])
  const work = [
    file.read(new Uint8Array(100), { position: 5 }),
    file.stat(),
    file.readMany(new Uint8Array(9), { positions: [1], lengths: 9 }),
  ]
  const listed = inFlight()
  t.deepEqual(
    listed.map(({ ageMs, ...rest }) => {
      t.true(ageMs >= 0 && ageMs < 60_000)
      return rest
    }),
    [
      { call: 'read', path, position: 5, bytes: 100, requests: 1 },
      { call: 'fstat', path, position: undefined, bytes: 0, requests: 1 },
      { call: 'read', path, position: undefined, bytes: 9, requests: 1 },
    ],
  )
  await Promise.all(work)
  t.deepEqual(inFlight(), [])
  await file.close()
})

const GOOD: Info = {
  version: '0.1.0',
  libc: 'glibc 2.17',
  backend: 'uring',
  reason: 'io_uring works here',
  kernel: '6.18.0',
  flags: [],
  ringEntries: 1024,
  memlockBytes: -1,
  hugePages: 'madvise',
  queueDepth: 128,
  blockSize: 4 << 20,
  inFlightBytes: 256 << 20,
  window: 'auto',
  maxQueued: 1 << 20,
  threads: 8,
  profile: { used: false, reason: 'a test' },
}
const WORK = {
  completed: 1000,
  readBytes: 1e9,
  writtenBytes: 0,
  bouncedBytes: 0,
  punted: 0,
  leaked: 0,
  leakedBytes: 0,
  downgraded: 0,
}

function advice(changed: Partial<Info>, worked: Partial<Stats> = {}): string[] {
  return adviceOn({ ...GOOD, ...changed }, { ...WORK, ...worked } as Stats)
}

test('the doctor has nothing to say where all is well, and a sentence for each thing that is not', (t) => {
  t.deepEqual(advice({}), [])
  t.deepEqual(advice({ backend: 'threads', reason: "asked for by the engine's options" }), [])
  const path = {
    path: '/mnt',
    fileSystem: 'nfs',
    direct: false,
    directReason: 'statx says no',
    locks: false,
    locksReason: 'no locks',
  } as Info['path']
  const cases: readonly (readonly [RegExp, Partial<Info>, Partial<Stats>?])[] = [
    [/instead of io_uring: a seccomp filter/, { backend: 'threads', reason: 'a seccomp filter refuses it' }],
    [/no huge pages/, { hugePages: 'never' }],
    [/A ring was lost, and 4096 bytes/, {}, { leaked: 1, leakedBytes: 4096 }],
    [/^2 files go through the page cache/, {}, { downgraded: 2 }],
    [/^500000000 of 1000000000 bytes were copied/, {}, { bouncedBytes: 5e8 }],
    [/^200 writes had to wait/, {}, { punted: 200 }],
  ]
  for (const [sentence, changed, worked] of cases) {
    const said = advice(changed, worked)
    t.is(said.length, 1)
    t.regex(said[0] ?? '', sentence)
  }
  t.deepEqual(advice({}, { completed: 10, bouncedBytes: 5e8, punted: 10 }), [], 'ten requests say nothing')
  const [direct = '', locks = ''] = advice({ path })
  t.regex(direct, /^Direct I\/O does not work at '\/mnt' \(nfs\): statx says no\./)
  t.regex(locks, /^Only one process must write a file at '\/mnt' \(nfs\): no locks\./)
})

test('the doctor looks at what is there', async (t) => {
  const said = await doctor(scratch.folder)
  t.true(
    said.every((each) => (typeof each === 'string' && each.endsWith('.')) || each.includes('echo madvise')),
    said.join('\n'),
  )
  const { path } = await info(scratch.folder)
  t.is(
    said.some((each) => each.startsWith('Direct I/O does not work')),
    path?.direct === false,
  )
  await rejected(t, () => doctor('/no/such/path'), 'ENOENT')
  t.is(typeof stats().classes.throughput.count, 'number')
})

test('if the binding cannot be loaded, that is the advice', async (t) => {
  const program = `import { doctor } from '${join(import.meta.dirname, '..', 'index.ts')}'; console.log((await doctor()).join())`
  const parameters = ['--input-type=module-typescript', '-e', program]
  const { status, stdout, stderr } = await run(process.execPath, parameters, scratch.folder, {
    DEEPRING_NATIVE_PATH: '/no/such.node',
  })
  t.is(status, 0, stderr)
  t.regex(stdout, /The native binding for .* could not be loaded/)
})

test('engines have a doctor, too', async (t) => {
  const engine = new Engine({ backend: 'threads' })
  t.deepEqual(
    (await engine.doctor()).filter((each) => each.includes('io_uring')),
    [],
  )
  await engine.close()
  await rejected(t, () => engine.doctor(), 'ERR_DEEPRING_CLOSED')
})
