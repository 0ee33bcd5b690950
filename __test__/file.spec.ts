/** `FileHandle`: what opening, reading, writing, measuring, cutting and closing do. */

import { mkdirSync, readdirSync, renameSync, rmdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import test from 'ava'
import { aioWrite } from '../lib/aio/index.ts'
import { allocate, FileHandle, FileStat, open } from '../index.ts'
import { contents, makeScratch, pattern, pause, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

testOnEachBackend('what is written is what is read', async (t, engine, backend) => {
  const bytes = pattern(3_000_017)
  const path = scratch.path()
  const file = await engine.open(path, 'w+')
  const written = await file.write(bytes, { position: 0 })
  t.is(written.bytesWritten, bytes.length)
  t.is(written.buffer, bytes)
  const memory = engine.allocate(bytes.length)
  const read = await file.read(memory, { position: 0 })
  t.is(read.bytesRead, bytes.length)
  t.is(read.buffer, memory)
  t.is(read.receipt.backend, backend)
  t.true(same(memory, bytes))
  await file.close()
  t.true(same(contents(path), bytes))
})

test('a path can be a string, a file: URL or a Buffer, absolute or relative', async (t) => {
  const path = scratch.file('abc')
  for (const name of [
    path,
    relative(process.cwd(), path),
    pathToFileURL(path),
    Buffer.from(path),
    new TextEncoder().encode(path),
  ]) {
    const file = await open(name)
    const { buffer } = await file.read(new Uint8Array(3), { position: 0 })
    t.is(Buffer.from(buffer).toString(), 'abc')
    await file.close()
  }
})

test.serial('a relative path is resolved at the time of the call', async (t) => {
  const path = scratch.file('here')
  const before = process.cwd()
  process.chdir(scratch.folder)
  const opening = open(relative(scratch.folder, path))
  process.chdir('/')
  const file = await opening
  process.chdir(before)
  t.is((await file.stat()).size, 4)
  t.is(file.path, relative(scratch.folder, path), 'the path is reported as it was passed')
  await file.close()
})

test.serial('a relative path means the directory, also if its name means another one by now', async (t) => {
  const before = process.cwd()
  const [current, previous] = [scratch.path('current'), scratch.path('previous')]
  mkdirSync(current)
  process.chdir(current)
  try {
    process.cwd()
    renameSync(current, previous)
    mkdirSync(current)
    const file = await open('by-handle', 'w')
    await file.close()
    const written = aioWrite(new Uint8Array(5000), 'by-path', { validate: true })
    process.chdir('/')
    await written
    t.deepEqual(readdirSync(previous).toSorted(), ['by-handle', 'by-path'])
    t.deepEqual(readdirSync(current), [])
    process.chdir(current)
    rmdirSync(current)
    const gone = await rejected(t, () => open('file', 'w'), 'ENOENT')
    t.is(gone.path, 'file')
  } finally {
    process.chdir(before)
  }
})

test('a name that is not UTF-8 can be opened by its bytes', async (t) => {
  const name = Buffer.concat([Buffer.from(`${scratch.folder}/`), Buffer.from([0xff, 0xfe, 0x41])])
  writeFileSync(name, 'raw')
  const file = await open(name)
  t.is((await file.stat()).size, 3)
  await file.close()
  rmSync(name)
})

test('r only reads and w only writes; anything else is EBADF', async (t) => {
  const path = scratch.file('abc')
  const reader = await open(path, 'r')
  const refusedWrite = await rejected(t, () => reader.write(new Uint8Array(1), { position: 0 }), 'EBADF')
  t.is(refusedWrite.errno, -9)
  t.is(refusedWrite.syscall, 'write')
  t.is(refusedWrite.path, path)
  await rejected(t, () => reader.truncate(0), 'EBADF')
  await reader.close()
  t.is(contents(path).length, 3)
  const writer = await open(path, 'w')
  await rejected(t, () => writer.read(new Uint8Array(1), { position: 0 }), 'EBADF')
  await writer.close()
})

test('w empties an existing file, r+ does not, wx refuses it', async (t) => {
  const path = scratch.file('abcdef')
  const updated = await open(path, 'r+')
  await updated.write(Buffer.from('X'), { position: 1 })
  await updated.close()
  t.is(Buffer.from(contents(path)).toString(), 'aXcdef')
  const refused = await rejected(t, () => open(path, 'wx'), 'EEXIST')
  t.is(refused.syscall, 'open')
  await rejected(t, () => open(path, 'wx+'), 'EEXIST')
  t.is(contents(path).length, 6)
  const emptied = await open(path, 'w')
  t.is((await emptied.stat()).size, 0)
  await emptied.close()
  const made = await open(scratch.path(), 'wx+')
  await made.write(Buffer.from('new'), { position: 0 })
  t.is((await made.read(new Uint8Array(3), { position: 0 })).bytesRead, 3)
  await made.close()
})

test('a created file has the requested mode, less the umask', async (t) => {
  const path = scratch.path()
  const file = await open(path, 'w', { mode: 0o640, syncDirectory: true })
  await file.close()
  t.is(statSync(path).mode & 0o777, 0o640 & ~process.umask())
})

test('offset and length are in bytes, for any element type', async (t) => {
  const file = await open(scratch.path(), 'w+')
  await file.write(pattern(64), { position: 0 })
  const floats = new Float32Array(8)
  const { bytesRead } = await file.read(floats, { position: 5, offset: 3, length: 10 })
  t.is(bytesRead, 10)
  const expected = new Uint8Array(32)
  expected.set(pattern(64).subarray(5, 15), 3)
  t.deepEqual(new Uint8Array(floats.buffer), expected)
  await file.close()
})

test('every kind of view can be read into and written from', async (t) => {
  const file = await open(scratch.path(), 'w+')
  const kinds = [
    Int8Array,
    Uint8Array,
    Uint8ClampedArray,
    Int16Array,
    Uint16Array,
    Int32Array,
    Uint32Array,
    Float32Array,
    Float64Array,
  ]
  const views = [
    ...kinds.map((Kind) => new Kind(4)),
    new BigInt64Array(4),
    new BigUint64Array(4),
    new DataView(new ArrayBuffer(9)),
    Buffer.alloc(7),
  ]
  for (const view of views) {
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
    bytes.set(pattern(bytes.length))
    t.is((await file.write(view, { position: 0 })).bytesWritten, bytes.length)
    bytes.fill(0)
    t.is((await file.read(view, { position: 0 })).buffer, view)
    t.deepEqual(bytes, pattern(bytes.length))
  }
  await file.close()
})

test('shared memory of fixed length can be read into', async (t) => {
  const file = await open(scratch.file('shared'))
  const view = new Uint8Array(new SharedArrayBuffer(6))
  await file.read(view, { position: 0 })
  t.is(Buffer.from(view).toString(), 'shared')
  await file.close()
})

test('an empty view moves nothing, anywhere', async (t) => {
  const path = scratch.file('abc')
  const file = await open(path, 'r+')
  t.is((await file.read(new Uint8Array(0), { position: 0 })).bytesRead, 0)
  t.is((await file.read(new Uint8Array(0), { position: 1000 })).bytesRead, 0)
  t.is((await file.write(new Uint8Array(0), { position: 1000 })).bytesWritten, 0)
  t.is((await file.stat()).size, 3)
  await file.close()
})

test('a position can be a bigint', async (t) => {
  const file = await open(scratch.file('abcdef'))
  const { buffer } = await file.read(new Uint8Array(2), { position: 3n })
  t.is(Buffer.from(buffer).toString(), 'de')
  await file.close()
})

test('an option that is undefined counts as absent', async (t) => {
  const file = await open(scratch.file('abc'), undefined, {
    direct: undefined,
    mode: undefined,
    syncDirectory: undefined,
    signal: undefined,
  })
  const options = {
    position: 0,
    offset: undefined,
    length: undefined,
    exact: undefined,
    signal: undefined,
    unheardOf: undefined,
  }
  t.is((await file.read(new Uint8Array(3), options)).bytesRead, 3)
  await file.sync({ signal: undefined })
  await file.close()
})

testOnEachBackend(
  'a read past the end ends there, and with exact it fails and reports what arrived',
  async (t, engine) => {
    const path = scratch.file(pattern(10_000))
    const file = await engine.open(path)
    const error = await rejected(
      t,
      () => file.read(new Uint8Array(16_384), { position: 0, exact: true }),
      'ERR_DEEPRING_EOF',
    )
    t.is(error.transferred, 10_000)
    t.is(error.requested, 16_384)
    t.is(error.position, 0)
    t.is(error.path, path)
    t.is(error.syscall, 'read')
    const short = await file.read(new Uint8Array(16_384), { position: 4000 })
    t.is(short.bytesRead, 6000)
    t.true(same(short.buffer.subarray(0, 6000), pattern(10_000).subarray(4000)))
    t.true(
      short.buffer.subarray(6000).every((byte) => byte === 0),
      'nothing lies behind what was read',
    )
    t.is((await file.read(new Uint8Array(16_384), { position: 4000, exact: false })).bytesRead, 6000)
    t.is((await file.read(new Uint8Array(6000), { position: 4000, exact: true })).bytesRead, 6000)
    t.is((await file.read(new Uint8Array(5), { position: 10_000 })).bytesRead, 0)
    t.is((await file.read(new Uint8Array(5), { position: 2 ** 40 })).bytesRead, 0)
    await rejected(t, () => file.read(new Uint8Array(5), { position: 2 ** 40, exact: true }), 'ERR_DEEPRING_EOF')
    await rejected(t, () => file.read(new Uint8Array(1), { position: 10_000, exact: true }), 'ERR_DEEPRING_EOF')
    t.is((await file.read(new Uint8Array(0), { position: 10_000, exact: true })).bytesRead, 0)
    await file.close()
  },
)

testOnEachBackend('positions beyond 4 GiB work', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w+')
  const position = 5 * 2 ** 30 + 123
  await file.write(pattern(5000), { position })
  t.is((await file.stat()).size, position + 5000)
  const { buffer } = await file.read(new Uint8Array(5010), { position: position - 10 })
  t.true(buffer.subarray(0, 10).every((byte) => byte === 0))
  t.true(same(buffer.subarray(10), pattern(5000)))
  await file.close()
  rmSync(path)
})

testOnEachBackend('truncate shortens a file, and extends it with zeros', async (t, engine) => {
  const path = scratch.file(pattern(10_000))
  const file = await engine.open(path, 'r+')
  await file.truncate(5001)
  t.is((await file.stat()).size, 5001)
  await file.truncate(9000n)
  const { buffer } = await file.read(new Uint8Array(9000), { position: 0 })
  t.true(same(buffer.subarray(0, 5001), pattern(10_000).subarray(0, 5001)))
  t.true(buffer.subarray(5001).every((byte) => byte === 0))
  await file.truncate()
  t.is((await file.stat()).size, 0)
  await file.close()
})

test('stat reports what node:fs reports', async (t) => {
  const path = scratch.file(pattern(12_345))
  const file = await open(path)
  const ours = await file.stat()
  const nodes = statSync(path)
  for (const key of ['dev', 'ino', 'mode', 'nlink', 'uid', 'gid', 'size', 'blksize', 'blocks'] as const)
    t.is(ours[key], nodes[key], key)
  t.true(Math.abs(ours.mtimeMs - nodes.mtimeMs) < 1)
  t.true(Math.abs(ours.ctimeMs - nodes.ctimeMs) < 1)
  t.true(ours.isFile())
  t.false(ours.isBlockDevice())
  await file.close()
})

testOnEachBackend('sync and datasync succeed and move no bytes', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w', { syncDirectory: true })
  const writing = file.write(pattern(1_000_001), { position: 0 })
  await Promise.all([writing, file.sync(), file.datasync()])
  await file.sync()
  await file.close()
  t.is(statSync(path).size, 1_000_001)
})

test('a symbolic link is followed', async (t) => {
  const link = scratch.path()
  symlinkSync(scratch.file('target'), link)
  const file = await open(link)
  t.is((await file.stat()).size, 6)
  await file.close()
})

testOnEachBackend('close waits for requests in flight and refuses new ones', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w+')
  const bytes = pattern(8_000_003)
  const writing = file.write(bytes, { position: 0 })
  let written = false
  void writing.then(() => (written = true))
  const closing = file.close()
  const error = await rejected(t, () => file.read(new Uint8Array(1), { position: 0 }), 'ERR_DEEPRING_CLOSED')
  t.is(error.path, path)
  await rejected(t, () => file.write(new Uint8Array(1), { position: 0 }), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => file.sync(), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => file.datasync(), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => file.stat(), 'ERR_DEEPRING_CLOSED')
  await rejected(t, () => file.truncate(), 'ERR_DEEPRING_CLOSED')
  await closing
  t.true(same(contents(path), bytes))
  t.true(written)
})

test('close can be called again, also while it runs', async (t) => {
  const file = await open(scratch.file('abc'))
  await Promise.all([file.close(), file.close()])
  await t.notThrowsAsync(file.close())
})

test('await using closes the file', async (t) => {
  let kept: FileHandle
  {
    await using file = await open(scratch.file('abc'))
    kept = file
    t.is((await file.stat()).size, 3)
  }
  await rejected(t, () => kept.stat(), 'ERR_DEEPRING_CLOSED')
})

test('the properties of a closed file can still be read', async (t) => {
  const path = scratch.file('abc')
  const file = await open(path)
  const { direct, backend, alignment } = file
  await file.close()
  t.deepEqual([file.path, file.direct, file.backend, file.alignment], [path, direct, backend, alignment])
})

test('a handle has no public constructor', (t) => {
  const Constructor = FileHandle as unknown as new (...parameters: unknown[]) => FileHandle
  t.throws(() => new Constructor(), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  t.throws(() => new Constructor({}), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
})

test('a read that is not awaited does not end the process', async (t) => {
  const file = await open(scratch.file(pattern(100_000)))
  const reading = file.read(allocate(100_000), { position: 0 })
  await pause(20)
  t.is((await reading).bytesRead, 100_000)
  await file.close()
})

test('stat has exact numbers on request, those of node:fs', async (t) => {
  const path = scratch.file(pattern(5000))
  const file = await open(path)
  const exact = await file.stat({ bigint: true })
  const expected = statSync(path, { bigint: true })
  for (const key of ['dev', 'ino', 'mode', 'nlink', 'uid', 'gid', 'size', 'blksize', 'blocks'] as const)
    t.is(exact[key], expected[key], key)
  for (const key of ['mtimeNs', 'ctimeNs', 'birthtimeNs', 'mtimeMs', 'ctimeMs', 'birthtimeMs'] as const)
    t.is(exact[key], expected[key], key)
  t.true(exact.isFile())
  t.false(exact.isBlockDevice())
  const rounded = await file.stat({ bigint: false })
  t.is(rounded.ino, Number(expected.ino))
  t.is(rounded.mtimeMs, Number(expected.mtimeNs) / 1e6)
  await rejected(t, () => file.stat({ bigint: 1 } as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await file.close()
})

test('two inode numbers that are one as numbers stay two', (t) => {
  const times = { atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n, birthtimeNs: 0n }
  const answer = { size: 0n, blocks: 0n, blockSize: 4096, dev: 1n, mode: 0, nlink: 1, uid: 0, gid: 0, ...times }
  const [a, b] = [1152921504606846978n, 1152921504606846979n].map((ino) => new FileStat({ ...answer, ino }).ino)
  t.is(Number(a), Number(b))
  t.not(a, b)
  t.is(new FileStat({ ...answer, ino: 12n }).ino, 12)
})

test('a file shows what it is', async (t) => {
  const path = scratch.file('abc')
  const file = await open(path)
  t.regex(inspect(file), new RegExp(`^FileHandle \\{.*path: '${path}'.*closed: false`, 's'))
  t.false(file.closed)
  await file.close()
  t.true(file.closed)
})

test("with direct: 'auto', what is in the page cache comes from there", async (t) => {
  const bytes = pattern(2_000_000)
  const path = scratch.file(bytes)
  const file = await open(path, 'r', { direct: 'auto' })
  // It was just written through the page cache.
  const warm = await file.read(allocate(bytes.length), { position: 0 })
  t.true(same(warm.buffer, bytes))
  t.is(warm.receipt.direct, false)
  await file.close()
})
