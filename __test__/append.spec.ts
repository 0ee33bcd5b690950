/** Appending: `FileHandle.append`, the flags with `a`, `appendFile`. */

import { appendFileSync, closeSync, openSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import test from 'ava'
import { allocate, appendFile, Engine, open } from '../index.ts'
import { contents, makeScratch, openDescriptors, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

testOnEachBackend('appends go to the end, one behind the other, and the length is exact', async (t, engine) => {
  const path = scratch.file(pattern(4097, 1))
  const file = await engine.open(path, 'a')
  const [first, second] = [pattern(70_001, 2), engine.allocate(4096).fill(9)]
  const answer = await file.append(first)
  t.deepEqual([answer.bytesWritten, answer.buffer], [70_001, first])
  await file.append(second, { offset: 1, length: 3000 })
  await file.append(new Uint8Array(0))
  const text = await file.append('größer\n')
  t.deepEqual([text.bytesWritten, text.buffer.toString()], [9, 'größer\n'])
  await file.append('größer', { offset: 4, length: 2 })
  t.is((await file.stat()).size, 4097 + 70_001 + 3000 + 11)
  await file.close()
  t.true(
    same(contents(path), Buffer.concat([pattern(4097, 1), first, second.subarray(0, 3000), Buffer.from('größer\nß')])),
  )
})

test('the flags with a create, keep what is there, and refuse what node:fs refuses', async (t) => {
  const path = scratch.path()
  const made = await open(path, 'ax', { mode: 0o640 })
  await made.append(Buffer.from('one'))
  await rejected(t, () => made.read(new Uint8Array(1), { position: 0 }), 'EBADF')
  await made.close()
  t.is(statSync(path).mode & 0o777, 0o640 & ~process.umask())
  await rejected(t, () => open(path, 'ax'), 'EEXIST')
  const both = await open(path, 'a+')
  await both.append(Buffer.from('two'))
  const { buffer } = await both.read(new Uint8Array(6), { position: 0 })
  t.is(Buffer.from(buffer).toString(), 'onetwo')
  t.false(both.direct)
  await both.close()
})

test('a position is refused where everything goes to the end, and append where it does not', async (t) => {
  const path = scratch.file('abc')
  const appending = await open(path, 'a')
  const misplaced = await rejected(t, () => appending.write(Buffer.from('x'), { position: 0 }), 'ERR_DEEPRING_INVALID')
  t.regex(misplaced.message, /append\(\)/)
  const ranges = { positions: [0], lengths: 1 }
  await rejected(t, () => appending.writeMany(Buffer.from('x'), ranges), 'ERR_DEEPRING_INVALID')
  await appending.close()
  await rejected(t, () => appending.append(Buffer.from('x')), 'ERR_DEEPRING_CLOSED')
  const writing = await open(path, 'r+')
  await rejected(t, () => writing.append(Buffer.from('x')), 'ERR_DEEPRING_INVALID')
  await writing.close()
  const reading = await open(path, 'r')
  await rejected(t, () => reading.append(Buffer.from('x')), 'EBADF')
  await reading.close()
  t.is(Buffer.from(contents(path)).toString(), 'abc')
})

/** Each line names its writer and its number, and has a length of its own. */
function lineOf(writer: string, index: number): string {
  return `${writer} ${index} ${'x'.repeat((index * 37) % 5000)}\n`
}

test('many appends at once stay whole, also beside those of another thread and of node:fs', async (t) => {
  const path = scratch.path()
  writeFileSync(path, '')
  const count = 60
  const program = `
    const { workerData, parentPort } = require('node:worker_threads')
    import(workerData.entry).then(async ({ open }) => {
      const file = await open(workerData.path, 'a')
      const appends = workerData.lines.map((line) => file.append(Buffer.from(line)))
      await Promise.all(appends)
      await file.close()
      parentPort.postMessage('done')
    })`
  const lines = Array.from({ length: count }, (_, index) => lineOf('worker', index))
  const entry = new URL('../index.ts', import.meta.url).href
  const worker = new Worker(program, { eval: true, workerData: { path, lines, entry } })
  const ended = new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  const file = await open(path, 'a')
  const descriptor = openSync(path, 'a')
  const own = Array.from({ length: count }, (_, index) => file.append(Buffer.from(lineOf('own', index))))
  for (let index = 0; index < count; index += 1) {
    writeSync(descriptor, lineOf('node', index))
    await own[index]
  }
  await Promise.all([...own, ended])
  closeSync(descriptor)
  await file.close()
  const found = Buffer.from(contents(path)).toString().split('\n').slice(0, -1)
  const expected = ['worker', 'own', 'node'].flatMap((writer) =>
    Array.from({ length: count }, (_, index) => lineOf(writer, index).slice(0, -1)),
  )
  // Not by `deepEqual`, whose difference would be megabytes.
  t.true(found.toSorted().join() === expected.toSorted().join())
})

testOnEachBackend('an append beside writes that extend the file loses nothing', async (t, engine) => {
  const path = scratch.path()
  const [writer, appender] = [await engine.open(path, 'w'), await engine.open(path, 'a')]
  const block = engine.allocate(1_000_003).fill(1)
  const writes = Array.from({ length: 8 }, (_, index) => writer.write(block, { position: index * block.length }))
  const appends = Array.from({ length: 8 }, () => appender.append(Buffer.alloc(777, 2)))
  await Promise.all([...writes, ...appends])
  const bytes = contents(path)
  // An append that came before a write can have been overwritten by it, at the position that the write names.
  const end = 8 * block.length
  t.true(bytes.length >= end && bytes.length <= end + 8 * 777)
  t.is((bytes.length - end) % 777, 0)
  t.true(bytes.subarray(0, end).every((byte) => byte === 1))
  t.true(bytes.subarray(end).every((byte) => byte === 2))
  await Promise.all([writer.close(), appender.close()])
})

test('what another program appends in between is kept', async (t) => {
  const path = scratch.path()
  const file = await open(path, 'a')
  for (let round = 0; round < 20; round += 1) {
    await file.append(Buffer.from(`a${round};`))
    appendFileSync(path, `b${round};`)
  }
  await file.close()
  const expected = Array.from({ length: 20 }, (_, round) => `a${round};b${round};`).join('')
  t.is(Buffer.from(contents(path)).toString(), expected)
})

test('a single appender is not punted', async (t) => {
  const engine = new Engine()
  const file = await engine.open(scratch.path(), 'a')
  const before = engine.stats().punted
  const memory = allocate(1 << 20)
  for (let round = 0; round < 16; round += 1) await file.append(memory)
  t.is(engine.stats().punted - before, 0)
  t.is((await file.stat()).size, 16 << 20)
  await file.close()
  await engine.close()
})

test('an append whose signal is aborted rejects, and appends all or nothing', async (t) => {
  const path = scratch.path()
  const file = await open(path, 'a')
  const controller = new AbortController()
  const appends = Array.from({ length: 10 }, () =>
    file.append(Buffer.alloc(100_000, 7), { signal: controller.signal }).then(
      () => 1,
      (error: Error) => (error.name === 'AbortError' ? 0 : Promise.reject(error)),
    ),
  )
  controller.abort()
  const settled: number[] = await Promise.all(appends)
  t.true(settled.includes(0))
  t.is((await file.stat()).size % 100_000, 0)
  await file.close()
})

test('a write stream of a file that was opened for appending appends in order', async (t) => {
  const path = scratch.file('begin;')
  const file = await open(path, 'a')
  t.throws(() => file.createWriteStream({ start: 0 }), { code: 'ERR_DEEPRING_INVALID_ARG_VALUE' })
  const pieces = Array.from({ length: 3000 }, (_, index) => `${index};`.padStart(5000, '.'))
  await pipeline(Readable.from(pieces), file.createWriteStream())
  t.true(file.closed)
  t.true(same(contents(path), Buffer.from(`begin;${pieces.join('')}`)))
})

test('appendFile creates, appends, and closes the file', async (t) => {
  const path = scratch.path()
  await appendFile(path, 'one', { mode: 0o600 })
  t.is(statSync(path).mode & 0o777, 0o600)
  await appendFile(path, new Uint16Array([0x4141]), { durable: true })
  await appendFile(path, ['two', Buffer.from('three')])
  await appendFile(
    path,
    (async function* () {
      yield 'four'
    })(),
  )
  t.is(Buffer.from(contents(path)).toString(), 'oneAAtwothreefour')
  t.is(openDescriptors(path), 0)
  await rejected(t, () => appendFile(scratch.folder, 'x'), 'EISDIR')
  await rejected(t, () => appendFile(path, 7 as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => appendFile(path, 'x', { position: 3 } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
})
