/** Memory and files that several threads of JavaScript have. */

import { statSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { MessageChannel, Worker } from 'node:worker_threads'
import test from 'ava'
import {
  allocateShared,
  type DeepringError,
  Engine,
  FileHandle,
  open,
  type Receipt,
  type SharedFile,
} from '../index.ts'
import {
  contents,
  makeScratch,
  openDescriptors,
  pattern,
  pause,
  rejected,
  runProgram,
  same,
  testOnEachBackend,
} from './harness.ts'

const scratch = makeScratch()
const program = join(import.meta.dirname, 'programs', 'sharing-worker.ts')

interface Report {
  readonly fd: number
  readonly ino: bigint
  readonly receipt: Receipt
  readonly isDefault: boolean
  readonly path: string
  readonly again: boolean
}

/** The next message of a worker. */
async function reportOf(worker: Worker): Promise<Report> {
  const [report] = (await Promise.race([
    once(worker, 'message'),
    once(worker, 'error').then(([error]) => Promise.reject(error)),
  ])) as [Report]
  return report
}

for (const own of [false, true])
  test(`workers have one file and one memory with the main thread (${own ? 'an engine of its own' : 'the default engine'})`, async (t) => {
    const path = scratch.file(pattern(1_000_000))
    const engine = own ? new Engine() : Engine.default
    const file = await engine.open(path, 'r+')
    const memory = allocateShared(4 * 65_536)
    const token = file.share()
    t.is(file.share().token, token.token, 'one token for a file')
    const workers = [0, 1, 2, 3].map((index) => {
      const position = index * 65_536
      const part = memory.subarray(position, position + 65_536)
      return new Worker(program, { workerData: { token, memory: part, position } })
    })
    const reports = await Promise.all(workers.map(reportOf))
    t.true(
      same(memory, pattern(1_000_000).subarray(0, memory.length)),
      'the main thread sees what the workers have read',
    )
    for (const { fd, ino, receipt, isDefault, path: seen, again } of reports) {
      t.is(fd, file.fd)
      t.is(ino, statSync(path, { bigint: true }).ino)
      t.is(receipt.bounced, 0, 'straight into the shared memory')
      t.is(receipt.direct, file.direct)
      t.is(isDefault, !own)
      t.is(seen, path)
      t.true(again)
    }
    t.is(openDescriptors(path), 1)
    await file.close()
    if (own) await engine.close()
    t.is(openDescriptors(path), 1, 'the workers still have it')
    await Promise.all(
      workers.map(async (worker) => {
        const ended = Promise.all([once(worker, 'message'), once(worker, 'exit')])
        // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
        worker.postMessage('go on')
        await ended
      }),
    )
    t.is(openDescriptors(path), 0, 'the last one has closed it')
    const left = Buffer.from(contents(path))
    t.is(left.subarray(2_000_000).toString(), 'last')
    t.is(left.subarray(1_065_536, 1_065_549).toString(), 'worker 65536\n')
    t.throws(() => FileHandle.from(token), { code: 'ERR_DEEPRING_CLOSED' })
  })

test('a worker that is terminated gives its share up', async (t) => {
  const path = scratch.file(pattern(1_000_000))
  const file = await open(path, 'r+')
  const workerData = { token: file.share(), memory: allocateShared(4096), position: 0 }
  const worker = new Worker(program, { workerData })
  await reportOf(worker)
  await file.close()
  t.is(openDescriptors(path), 1)
  await worker.terminate()
  for (let tries = 0; openDescriptors(path) > 0 && tries < 200; tries += 1) await pause(10)
  t.is(openDescriptors(path), 0)
})

testOnEachBackend('a file can be opened again in its own thread', async (t, engine) => {
  const path = scratch.file('abc')
  const file = await engine.open(path, 'r+')
  const other = FileHandle.from(structuredClone(file.share()))
  t.is(other.fd, file.fd)
  t.is(other.engine, engine)
  await other.write('X', 1)
  await other.close()
  t.is(file.closed, false)
  t.is(Buffer.from((await file.read(new Uint8Array(3), 0, 3, 0)).buffer).toString(), 'aXc')
  await file.close()
  t.is(openDescriptors(path), 0)
})

test('a shared file keeps its flags', async (t) => {
  const path = scratch.file('abc')
  for (const flags of ['r', 'a'] as const) {
    const file = await open(path, flags)
    const other = FileHandle.from(file.share())
    await rejected(t, () => other.write('X', 0), flags === 'r' ? 'EBADF' : 'ERR_DEEPRING_INVALID')
    await Promise.all([file.close(), other.close()])
  }
  t.is(contents(path).length, 3)
})

test('what is not the token of an open file is refused', async (t) => {
  const file = await open(scratch.file('abc'))
  const token = file.share()
  for (const value of [undefined, null, 7, {}, file, { ...token, token: '1' }, { ...token, kind: 'other' }])
    t.throws(() => FileHandle.from(value as SharedFile), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  t.throws(() => FileHandle.from({ ...token, token: token.token + 1 }), { code: 'ERR_DEEPRING_CLOSED' })
  await file.close()
  t.throws(() => FileHandle.from(token), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => file.share(), { code: 'ERR_DEEPRING_CLOSED' })
})

test('posting a file itself fails, and the error names share()', async (t) => {
  const file = await open(scratch.file('abc'))
  const { port1, port2 } = new MessageChannel()
  for (const send of [() => port1.postMessage({ file }), () => structuredClone([file])]) {
    const error = t.throws(send, { name: 'DataCloneError' })
    t.regex(error?.message ?? '', /share\(\)/)
  }
  port2.close()
  t.regex(String(file), /^FileHandle '/)
  await file.close()
})

testOnEachBackend(
  'shared memory is zeroed, on a page, and moves without a copy in both directions',
  async (t, engine) => {
    const bytes = pattern(3 << 20)
    const path = scratch.path()
    const memory = allocateShared(bytes.length)
    t.true(memory.every((byte) => byte === 0))
    t.true(memory.buffer instanceof SharedArrayBuffer)
    memory.set(bytes)
    const file = await engine.open(path, 'w+')
    const written = await file.write(memory, { position: 0 })
    memory.fill(0)
    const read = await file.read(memory, { position: 0 })
    if (file.direct) t.deepEqual([written.receipt.bounced, read.receipt.bounced], [0, 0])
    t.true(same(memory, bytes))
    await file.close()
  },
)

test('shared memory of any size, and the errors of sizes that are none', (t) => {
  t.is(allocateShared(0).byteLength, 0)
  t.is(allocateShared(5n).byteLength, 5)
  t.throws(() => allocateShared(-1), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
  t.throws(() => allocateShared(1.5), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
  t.throws(() => allocateShared('1' as never), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  // More than there is; or, on older runtimes, more than a view can have.
  const { code } = t.throws<DeepringError>(() => allocateShared(Number.MAX_SAFE_INTEGER)) as DeepringError
  t.true(['ENOMEM', 'ERR_DEEPRING_OUT_OF_RANGE'].includes(code))
})

test('an engine of threads has as many as its options say', async (t) => {
  const { stdout, stderr } = await runProgram('threads.ts', scratch.file(pattern(4_000_000)))
  t.deepEqual([stderr, JSON.parse(stdout)], ['', { during: 3, after: 0 }])
  await using engine = new Engine({ backend: 'threads', threads: 3 })
  t.is((await engine.info()).threads, 3)
  t.is((await Engine.default.info()).threads, 8)
  for (const threads of [0, 257, 1.5]) t.throws(() => new Engine({ threads }), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
})
