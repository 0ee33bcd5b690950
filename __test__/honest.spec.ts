/** The promise **honest**: what ran, how, and why not otherwise, can always be read. */

import test from 'ava'
import { allocate, DeepringError, info, open } from '../index.ts'
import { backends, makeScratch, pattern, refusalOf, rejected, runProgram, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

testOnEachBackend(
  'aligned memory is transferred directly without a copy, and the receipt says so',
  async (t, engine, backend) => {
    const file = await engine.open(scratch.file(pattern(4 << 20)), 'r', { direct: 'require' })
    t.true(file.direct)
    t.is(file.backend, backend)
    t.true(file.alignment.offset >= 512)
    const { receipt } = await file.read(engine.allocate(4 << 20), { position: 0 })
    t.true(receipt.direct)
    t.is(receipt.bounced, 0)
    t.is(receipt.backend, backend)
    t.is(receipt.blocks, 4)
    t.is(receipt.retried, 0)
    t.true(receipt.queueMs >= 0 && receipt.deviceMs > 0)
    await file.close()
  },
  { blockSize: 1 << 20 },
)

testOnEachBackend(
  'unaligned memory is copied through bounce blocks; the receipt counts the bytes',
  async (t, engine) => {
    const file = await engine.open(scratch.file(pattern(1 << 20)))
    const memory = engine.allocate((1 << 20) + 1)
    const { receipt } = await file.read(memory.subarray(1), { position: 0 })
    t.true(receipt.direct)
    t.is(receipt.bounced, 1 << 20)
    await file.close()
  },
)

testOnEachBackend('only unaligned edges are copied', async (t, engine) => {
  const file = await engine.open(scratch.path(), 'w+')
  await file.write(pattern(1_000_000), { position: 0 })
  const { offset } = file.alignment
  const { receipt } = await file.read(engine.allocate(500_000), { position: 0 })
  t.true(receipt.bounced > 0 && receipt.bounced < 2 * Math.max(offset, 4096), `${receipt.bounced} bytes`)
  await file.close()
})

testOnEachBackend('direct: never uses the page cache, and says so', async (t, engine) => {
  const file = await engine.open(scratch.file(pattern(1 << 20)), 'r', { direct: 'never' })
  t.false(file.direct)
  t.not(file.directReason, '')
  const { receipt } = await file.read(engine.allocate(1 << 20), { position: 0 })
  t.false(receipt.direct)
  t.is(receipt.bounced, 0)
  await file.close()
})

testOnEachBackend('a closed file keeps the last backend and directness it had', async (t, engine, backend) => {
  for (const direct of ['prefer', 'never'] as const) {
    const file = await engine.open(scratch.file(pattern(4096)), 'r', { direct })
    t.deepEqual([file.backend, file.direct], [backend, direct === 'prefer'])
    await file.close()
    t.deepEqual([file.backend, file.direct], [backend, direct === 'prefer'])
  }
})

const noRing = backends.includes('uring') ? refusalOf('uring') : 'DEEPRING_BACKEND names the other backend'
const testOnRing = noRing === undefined ? test : test.skip

testOnRing(`a file reports the backend that runs now, also after a lost ring${because(noRing)}`, async (t) => {
  const { status, stdout, stderr } = await runProgram('lost-ring.ts', scratch.file(pattern(4096)))
  t.is(status, 0, stderr)
  t.deepEqual(JSON.parse(stdout), {
    reported: ['uring', 'threads', 'threads'],
    bytesRead: 4096,
    backend: 'threads',
    direct: true,
  })
})

// The proc file system has no direct I/O.
testOnEachBackend('where direct I/O is refused, prefer says why and require fails', async (t, engine) => {
  const file = await engine.open('/proc/version')
  t.false(file.direct)
  t.true(file.directReason.length > 0)
  const { bytesRead, buffer, receipt } = await file.read(new Uint8Array(1000), { position: 0 })
  t.regex(Buffer.from(buffer.buffer, 0, bytesRead).toString(), /^Linux version/)
  t.false(receipt.direct)
  await file.close()
  const error = await rejected(t, () => engine.open('/proc/version', 'r', { direct: 'require' }), 'ERR_DEEPRING_DIRECT')
  t.is(error.path, '/proc/version')
  t.is(error.syscall, 'open')
})

test('an error has all facts in its fields, and Node’s words', async (t) => {
  const path = scratch.file(pattern(100))
  const file = await open(path)
  const error = await rejected(
    t,
    () => file.read(new Uint8Array(60), { position: 50, exact: true }),
    'ERR_DEEPRING_EOF',
  )
  t.true(error instanceof DeepringError && error instanceof Error)
  t.is(error.name, 'DeepringError')
  t.deepEqual({ ...error }, {
    code: 'ERR_DEEPRING_EOF',
    syscall: 'read',
    path,
    position: 50,
    requested: 60,
    transferred: 50,
  } as never)
  t.true(error.message.includes(`read '${path}' (50 of 60 bytes from position 50)`), error.message)
  await file.close()
})

test('the stack of an error leads to the await of the caller', async (t) => {
  const file = await open(scratch.file('abc'))
  const whoReads = async (): Promise<void> => {
    await file.read(new Uint8Array(10), { position: 0, exact: true })
  }
  const error = await rejected(t, whoReads, 'ERR_DEEPRING_EOF')
  t.regex(error.stack ?? '', /whoReads/)
  await file.close()
  const whoOpens = async (): Promise<void> => {
    await open(scratch.path('missing'))
  }
  t.regex((await rejected(t, whoOpens, 'ENOENT')).stack ?? '', /whoOpens/)
  const whoAsks = async (): Promise<void> => {
    await info(scratch.path('missing'))
  }
  t.regex((await rejected(t, whoAsks, 'ENOENT')).stack ?? '', /whoAsks/)
  t.throws(() => allocate(-1), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
})

function because(refusal: string | undefined): string {
  return refusal === undefined ? '' : ` (${refusal})`
}
