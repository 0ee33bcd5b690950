/** Whole files: `readFile`, `writeFile`, `copyFile`, `hashFile`. */

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  lstatSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  allocate,
  appendFile,
  copyFile,
  crc32c,
  Engine,
  hashFile,
  open,
  readFile,
  writeFile,
  type Progress,
} from '../index.ts'
import {
  bytesLeft,
  contents,
  makeScratch,
  mounted,
  openDescriptors,
  pattern,
  pause,
  rejected,
  same,
  testOnEachBackend,
} from './harness.ts'

const scratch = makeScratch()
const MIB = 1 << 20

/** Fails the call that it is passed to after its first report. */
function thrower(): { onProgress: (progress: Progress) => void; readonly error: Error } {
  const error = new Error('enough')
  return {
    error,
    onProgress: () => {
      throw error
    },
  }
}

/** A file of many parts, of which some have not begun when the first has ended. */
function ofManyParts(): string {
  const path = scratch.path()
  writeFileSync(path, '')
  truncateSync(path, 320 * MIB)
  return path
}

/** Reports rise and end with all bytes. */
function checkProgress(t: ExecutionContext, reports: readonly Progress[], total: number): void {
  t.true(reports.length > 0)
  t.deepEqual(reports.at(-1), { bytes: total, total })
  for (const [nth, report] of reports.entries()) t.true(report.bytes >= (reports[nth - 1]?.bytes ?? 0))
  t.is(reports.filter((report) => report.bytes === report.total).length, 1, 'the end is reported once')
}

// ---- readFile

testOnEachBackend('readFile reads every byte of files of any length', async (t, engine) => {
  for (const length of [0, 1, 511, 4096, 4097, 3 * MIB + 17]) {
    const bytes = pattern(length)
    const path = scratch.file(bytes)
    const read = await readFile(path, { engine })
    t.true(same(read, bytes), `${length} bytes`)
    read[Symbol.dispose]()
    t.is(read.byteLength, 0)
    t.is(openDescriptors(path), 0)
  }
})

test('readFile reads into memory of the caller, and refuses one that is too small', async (t) => {
  const bytes = pattern(70_001)
  const path = scratch.file(bytes)
  const memory = allocate(100_000).fill(7)
  const read = await readFile(path, { into: memory })
  t.is(read.buffer, memory.buffer)
  t.true(same(read, bytes))
  t.true(
    memory.subarray(70_001).every((byte) => byte === 7),
    'nothing behind the file is changed',
  )
  const error = await rejected(t, () => readFile(path, { into: new Uint8Array(70_000) }), 'ERR_DEEPRING_SIZE_MISMATCH')
  t.deepEqual([error.path, error.requested], [path, 70_001])
  const tensor = { dtype: 'U8', shape: [70_001], data: new Uint8Array(70_001) }
  t.true(same(await readFile(path, { into: tensor }), bytes))
})

test('readFile reads files that do not say how long they are', async (t) => {
  t.regex(Buffer.from(await readFile('/proc/self/status')).toString(), /^Name:/)
  const into = new Uint8Array(100_000)
  t.regex(Buffer.from(await readFile('/proc/self/status', { into })).toString(), /^Name:/)
})

test('readFile, copyFile and chunks go past 2 GiB, where node:fs ends', async (t) => {
  const path = scratch.path()
  const size = 2 ** 31 + 4099
  const tail = pattern(5000)
  const descriptor = openSync(path, 'w')
  writeSync(descriptor, tail, 0, tail.length, size - tail.length)
  fsyncSync(descriptor)
  closeSync(descriptor)
  const bytes = await readFile(path)
  t.is(bytes.byteLength, size)
  t.true(same(bytes.subarray(-tail.length), tail))
  t.is(bytes[2 ** 31 - 4096], 0)
  bytes[Symbol.dispose]()
  const to = scratch.path()
  t.deepEqual(await copyFile(path, to, { clone: 'never' }).then((result) => [result.bytes, result.copied < MIB]), [
    size,
    true,
  ])
  t.is(await hashFile(to, 'crc32c'), await hashFile(path, 'crc32c'))
  const file = await open(to)
  const [last] = await file.createReadStream({ start: size - 10 }).toArray()
  t.true(same(last as Uint8Array, tail.subarray(-10)))
})

test('readFile reports its progress, and rejects with what the report throws', async (t) => {
  const bytes = pattern(100 * MIB + 3)
  const path = scratch.file(bytes)
  const reports: Progress[] = []
  const read = await readFile(path, { onProgress: (progress) => void reports.push(progress) })
  t.true(same(read, bytes))
  checkProgress(t, reports, bytes.length)
  const { onProgress, error } = thrower()
  t.is(await t.throwsAsync(readFile(path, { onProgress })), error)
  t.is(openDescriptors(path), 0)
})

test('readFile rejects when it is aborted, before and in the middle, and leaves no memory', async (t) => {
  const path = ofManyParts()
  await t.throwsAsync(readFile(path, { signal: AbortSignal.abort() }), { name: 'AbortError' })
  const engine = new Engine()
  const controller = new AbortController()
  const onProgress = (): void => controller.abort('enough')
  const error = await t.throwsAsync(readFile(path, { engine, signal: controller.signal, onProgress }))
  t.deepEqual([error?.name, (error as { cause?: unknown }).cause], ['AbortError', 'enough'])
  t.is(await bytesLeft(engine), 0)
  t.is(openDescriptors(path), 0)
  await engine.close()
})

test('readFile names what is wrong', async (t) => {
  t.is((await rejected(t, () => readFile(scratch.path()), 'ENOENT')).syscall, 'open')
  await rejected(t, () => readFile(scratch.folder), 'EISDIR')
  await rejected(t, () => readFile('/dev/null'), 'ERR_DEEPRING_UNSUPPORTED')
  await rejected(t, () => readFile(scratch.file('x'), 'utf8' as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => readFile(scratch.file('x'), { encoding: 'utf8' } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
})

/** Descriptors that stay open. A thread of the engine closes them, perhaps a moment after it has reported the end. */
async function leftOpen(path: string): Promise<number> {
  for (let tries = 0; openDescriptors(path) > 0 && tries < 100; tries += 1) await pause(10)
  return openDescriptors(path)
}

// ---- writeFile

testOnEachBackend('writeFile writes every kind of data, with the exact length', async (t, engine) => {
  const path = scratch.path()
  for (const replace of [false, true]) {
    const bytes = pattern(MIB + 17)
    await writeFile(path, bytes, { engine, replace })
    t.true(same(contents(path), bytes))
    await writeFile(path, 'text: ü', { engine, replace, durable: true })
    t.is(readFileSync(path, 'utf8'), 'text: ü')
    await writeFile(path, { dtype: 'I16', shape: [2], data: new Int16Array([1, 2]) }, { engine, replace })
    t.deepEqual([...contents(path)], [1, 0, 2, 0])
    await writeFile(path, '', { engine, replace })
    t.is(statSync(path).size, 0)
    t.is(await leftOpen(path), 0)
  }
})

test('writeFile writes what comes in pieces of any size', async (t) => {
  const path = scratch.path()
  const sizes = [0, 1, 5000, 4 * MIB, 9 * MIB + 1, 12, 3 * MIB, 4 * MIB - 13]
  const pieces = sizes.map((size, seed) => pattern(size, seed + 1))
  for (const replace of [false, true]) {
    await writeFile(path, pieces, { replace })
    t.true(same(contents(path), Buffer.concat(pieces)))
    // A generator that reuses its memory is right, because each piece is its own again when it is asked for the next.
    const memory = new Uint8Array(16 * MIB)
    const reusing = (async function* () {
      for (const piece of pieces) {
        memory.set(piece)
        yield memory.subarray(0, piece.length)
        memory.fill(0)
      }
    })()
    await writeFile(path, reusing, { replace })
    t.true(same(contents(path), Buffer.concat(pieces)))
  }
})

test('writeFile reports its progress', async (t) => {
  const bytes = pattern(70 * MIB + 1)
  for (const data of [bytes, [bytes.subarray(0, 5), bytes.subarray(5)]]) {
    const reports: Progress[] = []
    await writeFile(scratch.path(), data, { onProgress: (progress) => void reports.push(progress) })
    checkProgress(t, reports, bytes.length)
  }
})

/** The names in a new folder. */
function inFolder(): { folder: string; path: string } {
  const folder = scratch.directory('folder')
  return { folder, path: join(folder, 'state') }
}

test('with replace, the old file is as it was until the new one is complete, whatever fails', async (t) => {
  const { folder, path } = inFolder()
  writeFileSync(path, 'old', { mode: 0o640 })
  chmodSync(path, 0o604)
  const failing = (async function* () {
    yield pattern(5 * MIB)
    t.is(readFileSync(path, 'utf8'), 'old')
    throw new Error('out of ideas')
  })()
  await t.throwsAsync(writeFile(path, failing, { replace: true }), { message: 'out of ideas' })
  const controller = new AbortController()
  const aborting = (async function* () {
    yield pattern(5 * MIB)
    controller.abort()
    yield pattern(5 * MIB)
  })()
  const options = { replace: true, signal: controller.signal }
  await t.throwsAsync(writeFile(path, aborting, options), { name: 'AbortError' })
  const { onProgress, error } = thrower()
  t.is(await t.throwsAsync(writeFile(path, pattern(70 * MIB), { replace: true, onProgress })), error)
  t.is(readFileSync(path, 'utf8'), 'old')
  t.deepEqual(readdirSync(folder), ['state'])
  await writeFile(path, 'new', { replace: true })
  t.is(readFileSync(path, 'utf8'), 'new')
  t.is(statSync(path).mode & 0o777, 0o604, 'it has the permissions of the old one')
  t.deepEqual(readdirSync(folder), ['state'])
})

test('with replace, readers of the old file keep it, and a link is replaced', async (t) => {
  const { folder, path } = inFolder()
  writeFileSync(path, 'old')
  const reader = await open(path)
  await writeFile(path, 'new', { replace: true, durable: false })
  const { buffer } = await reader.read(new Uint8Array(3), { position: 0 })
  t.is(Buffer.from(buffer).toString(), 'old')
  await reader.close()
  const link = join(folder, 'link')
  symlinkSync(path, link)
  await writeFile(link, 'other', { replace: true })
  t.false(lstatSync(link).isSymbolicLink())
  t.is(readFileSync(path, 'utf8'), 'new')
})

test('writeFile creates with a mode, and names what is wrong', async (t) => {
  const [plain, replaced] = [scratch.path(), scratch.path()]
  await writeFile(plain, 'x', { mode: 0o600 })
  await writeFile(replaced, 'x', { mode: 0o600, replace: true })
  t.deepEqual([statSync(plain).mode & 0o777, statSync(replaced).mode & 0o777], [0o600, 0o600])
  await rejected(t, () => writeFile(join(scratch.folder, 'none', 'x'), 'x', { replace: true }), 'ENOENT')
  await rejected(t, () => writeFile(scratch.folder, 'x', { replace: true }), 'EISDIR')
  await rejected(t, () => writeFile(plain, 5 as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => writeFile(plain, [5] as never, { replace: true }), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => writeFile(plain, 'x', { replace: 1 } as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => writeFile(plain, 'x', { flag: 'a' } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  t.is(readFileSync(plain, 'utf8'), 'x')
})

test('with replace, memory that is detached meanwhile leaves the old file', async (t) => {
  const { folder, path } = inFolder()
  writeFileSync(path, 'old')
  const bytes = pattern(32 * MIB)
  const writing = writeFile(path, bytes, { replace: true })
  // After the new file is there, and before all is written: at any time, the answer is one of two.
  setImmediate(() => structuredClone(bytes, { transfer: [bytes.buffer] }))
  const error = await writing.then(
    () => undefined,
    (thrown: { code: string }) => thrown,
  )
  if (error !== undefined) t.is(error.code, 'ERR_DEEPRING_DETACHED')
  t.true(statSync(path).size === (error === undefined ? 32 * MIB : 3))
  t.deepEqual(readdirSync(folder), ['state'])
})

// ---- copyFile

testOnEachBackend('copyFile copies every byte, the mode and the times', async (t, engine) => {
  for (const length of [0, 1, 4097, 4 * MIB, 9 * MIB + 17]) {
    const bytes = pattern(length)
    const [from, to] = [scratch.file(bytes), scratch.path()]
    chmodSync(from, 0o640)
    utimesSync(from, 1_000_000_000.25, 1_111_111_111.5)
    const result = await copyFile(from, to, { engine, clone: 'never' })
    t.true(same(contents(to), bytes))
    t.is(result.bytes, length)
    t.false(result.cloned)
    const stat = statSync(to)
    t.deepEqual([stat.mode & 0o777, stat.mtimeMs], [0o640, 1_111_111_111_500])
    t.is((await leftOpen(from)) + (await leftOpen(to)), 0)
  }
})

test('copyFile keeps holes, at the front, in the middle and at the end', async (t) => {
  const from = scratch.path()
  const descriptor = openSync(from, 'w')
  const data = pattern(MIB + 100)
  writeSync(descriptor, data, 0, data.length, 64 * MIB)
  writeSync(descriptor, data, 0, 5000, 128 * MIB + 11)
  fsyncSync(descriptor)
  closeSync(descriptor)
  truncateSync(from, 200 * MIB + 1)
  for (const replace of [false, true]) {
    const to = scratch.path()
    const { bytes, copied } = await copyFile(from, to, { clone: 'never', replace })
    t.is(bytes, 200 * MIB + 1)
    t.true(copied < 2 * MIB)
    t.is(statSync(to).size, 200 * MIB + 1)
    t.true(statSync(to).blocks * 512 < 3 * MIB)
    t.true(same(contents(to), contents(from)))
  }
})

test('copyFile onto itself, by its name or a link, leaves the file', async (t) => {
  const bytes = pattern(5000)
  const path = scratch.file(bytes)
  const link = scratch.path('link')
  symlinkSync(path, link)
  for (const to of [path, link]) {
    t.is((await copyFile(path, to)).bytes, 5000)
    t.true(same(contents(path), bytes))
  }
})

test.serial('relative paths of a copy mean what they mean at the call', async (t) => {
  const before = process.cwd()
  const from = scratch.file(pattern(5000))
  for (const replace of [false, true]) {
    process.chdir(scratch.folder)
    const copying = copyFile(basename(from), `relative-${replace}`, { replace })
    process.chdir('/')
    await copying.finally(() => process.chdir(before))
    t.true(same(contents(join(scratch.folder, `relative-${replace}`)), pattern(5000)))
  }
})

test('copyFile overwrites a longer file, or replaces it with its permissions', async (t) => {
  const from = scratch.file(pattern(1000))
  chmodSync(from, 0o600)
  for (const replace of [false, true]) {
    const to = scratch.file(pattern(9000))
    chmodSync(to, 0o644)
    await copyFile(from, to, { replace })
    t.true(same(contents(to), pattern(1000)))
    t.is(statSync(to).mode & 0o777, replace ? 0o644 : 0o600)
  }
})

test('copyFile reports its progress, and stops when it is aborted', async (t) => {
  const { folder, path: to } = inFolder()
  writeFileSync(to, 'old')
  const from = scratch.file(pattern(70 * MIB))
  const { onProgress, error } = thrower()
  t.is(await t.throwsAsync(copyFile(from, to, { clone: 'never', replace: true, onProgress })), error)
  const controller = new AbortController()
  const abort = (): void => controller.abort()
  const options = { clone: 'never', replace: true, signal: controller.signal, onProgress: abort } as const
  await t.throwsAsync(copyFile(from, to, options), { name: 'AbortError' })
  t.is(readFileSync(to, 'utf8'), 'old')
  t.deepEqual(readdirSync(folder), ['state'])
  const reports: Progress[] = []
  await copyFile(from, to, { clone: 'never', onProgress: (progress) => void reports.push(progress) })
  checkProgress(t, reports, 70 * MIB)
  t.true(same(contents(to), contents(from)))
})

const cloning = mounted(scratch, 'xfs', (folder) => {
  const image = scratch.path('xfs.img')
  writeFileSync(image, '')
  truncateSync(image, 320 * MIB)
  execFileSync('mkfs.xfs', ['-q', '-m', 'reflink=1', image], { stdio: 'pipe' })
  execFileSync('mount', ['-o', 'loop', image, folder], { stdio: 'pipe' })
})
const title = 'copyFile clones where the file system can, unless it must not'
if ('refusal' in cloning) test.skip(`${title} (${cloning.refusal})`, () => {})
else
  test(title, async (t) => {
    const bytes = pattern(20 * MIB + 17)
    const [from, to] = [join(cloning.folder, 'from'), join(cloning.folder, 'to')]
    writeFileSync(from, bytes)
    for (const replace of [false, true]) {
      const cloned = await copyFile(from, to, { replace })
      t.deepEqual(cloned, { bytes: bytes.length, copied: 0, cloned: true })
      t.true(same(contents(to), bytes))
      const copied = await copyFile(from, to, { replace, clone: 'never' })
      t.deepEqual(copied, { bytes: bytes.length, copied: bytes.length, cloned: false })
      t.true(same(contents(to), bytes))
    }
    // Between file systems there is no clone.
    const outside = scratch.path()
    t.false((await copyFile(from, outside)).cloned)
    t.true(same(contents(outside), bytes))
  })

test('copyFile names what is wrong, and creates nothing', async (t) => {
  const to = scratch.path()
  t.is((await rejected(t, () => copyFile(scratch.path(), to), 'ENOENT')).syscall, 'open')
  t.throws(() => statSync(to))
  const from = scratch.file('x')
  await rejected(t, () => copyFile(from, scratch.folder), 'EISDIR')
  await rejected(t, () => copyFile(from, to, { clone: 'always' } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
})

// ---- hashFile

testOnEachBackend('hashFile agrees with node:crypto and crc32c, for files of any length', async (t, engine) => {
  // What the engine hashes at once are pieces of 2 MiB, six of them in flight.
  for (const length of [0, 1, 65_536, 65_537, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 3 * MIB, 12 * MIB, 20 * MIB + 17]) {
    const bytes = pattern(length)
    const path = scratch.file(bytes)
    for (const algorithm of ['sha256', 'SHA-256', 'md5', 'blake2b512']) {
      const expected = createHash(algorithm).update(bytes).digest('hex')
      t.is(await hashFile(path, algorithm, { engine }), expected, `${algorithm} of ${length} bytes`)
    }
    t.is(await hashFile(path, 'crc32c', { engine }), crc32c(bytes).toString(16).padStart(8, '0'))
    t.is(openDescriptors(path), 0)
  }
})

test('hashFile of many files at once', async (t) => {
  const files = Array.from({ length: 12 }, (_, seed) => pattern(2 * MIB + seed, seed + 1))
  const paths = files.map((bytes) => scratch.file(bytes))
  for (const algorithm of ['sha1', 'sha256']) {
    const hashes = await Promise.all(paths.map((path) => hashFile(path, algorithm)))
    t.deepEqual(
      hashes,
      files.map((bytes) => createHash(algorithm).update(bytes).digest('hex')),
    )
  }
})

/** A file of zeros that takes seconds to hash, and no space. */
function ofSeconds(): string {
  const path = scratch.path()
  writeFileSync(path, '')
  truncateSync(path, 8192 * MIB)
  return path
}

test('hashes of many large files leave the threads of the engine to others', async (t) => {
  const large = ofSeconds()
  const controller = new AbortController()
  const { signal } = controller
  const hashing: Promise<string>[] = []
  const begun = Array.from(
    { length: 16 },
    () =>
      new Promise<void>((resolve) => {
        hashing.push(hashFile(large, 'sha256', { signal, onProgress: () => resolve() }))
      }),
  )
  await Promise.all(begun)
  // Each has a thread for a piece at a time, so that these need not wait for the end of any.
  const small = scratch.file('x')
  for (let nth = 0; nth < 20; nth += 1) t.is(Buffer.from(await readFile(small)).toString(), 'x')
  t.is(await Promise.race([...hashing, 'none has ended']), 'none has ended')
  controller.abort()
  for (const hash of hashing) await t.throwsAsync(hash, { name: 'AbortError' })
  t.is(openDescriptors(large), 0)
})

test('hashFile of a file that gets shorter rejects', async (t) => {
  for (const algorithm of ['sha256', 'sha1']) {
    const large = ofSeconds()
    const hashing = hashFile(large, algorithm, { onProgress: () => truncateSync(large, 5) })
    await rejected(t, () => hashing, 'ERR_DEEPRING_EOF')
    t.is(openDescriptors(large), 0)
  }
})

// Since Node 23.9.
const threadCpu = process.threadCpuUsage?.bind(process)
if (threadCpu === undefined)
  test.skip('hashFile computes beside the JavaScript thread (its CPU is not counted)', () => {})
else
  test.serial('hashFile computes beside the JavaScript thread', async (t) => {
    const path = scratch.path()
    writeFileSync(path, '')
    truncateSync(path, 256 * MIB)
    for (const algorithm of ['sha256', 'sha512', 'crc32c']) {
      // The worker, and what is compiled.
      await hashFile(path, algorithm)
      const [ofAll, ofThread] = [process.cpuUsage(), threadCpu()]
      await hashFile(path, algorithm)
      const [all, thread] = [process.cpuUsage(ofAll), threadCpu(ofThread)]
      const share = (thread.user + thread.system) / (all.user + all.system)
      t.true(share < 0.5, `${algorithm}: ${share} of the CPU`)
    }
  })

test('hashFile reports its progress, and ends when it is aborted', async (t) => {
  const bytes = pattern(70 * MIB + 5)
  const path = scratch.file(bytes)
  for (const algorithm of ['crc32c', 'sha256', 'sha512']) {
    const reports: Progress[] = []
    const hash = await hashFile(path, algorithm, { onProgress: (progress) => void reports.push(progress) })
    const expected =
      algorithm === 'crc32c'
        ? crc32c(bytes).toString(16).padStart(8, '0')
        : createHash(algorithm).update(bytes).digest('hex')
    t.is(hash, expected)
    checkProgress(t, reports, bytes.length)
    const { onProgress, error } = thrower()
    t.is(await t.throwsAsync(hashFile(path, algorithm, { onProgress })), error)
    const controller = new AbortController()
    const options = { signal: controller.signal, onProgress: () => controller.abort() }
    const large = ofManyParts()
    await t.throwsAsync(hashFile(large, algorithm, options), { name: 'AbortError' })
    t.is(openDescriptors(path) + openDescriptors(large), 0)
  }
  // The worker that was left in the middle begins anew.
  t.is(await hashFile(path, 'sha512'), createHash('sha512').update(bytes).digest('hex'))
})

test('hashFile refuses unknown algorithms', async (t) => {
  const path = scratch.file('x')
  await rejected(t, () => hashFile(path, 'crc33'), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  await rejected(t, () => hashFile(path, undefined as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
  await rejected(t, () => hashFile(scratch.path(), 'sha256'), 'ENOENT')
})

test('appendFile reports its progress, of bytes and of pieces', async (t) => {
  const bytes = pattern(70 * MIB)
  for (const data of [bytes, [bytes.subarray(0, 5), bytes.subarray(5)]]) {
    const path = scratch.file('before')
    const reports: Progress[] = []
    await appendFile(path, data, { onProgress: (progress) => void reports.push(progress) })
    checkProgress(t, reports, bytes.length)
    t.true(same(contents(path).subarray(6), bytes))
  }
  const { onProgress, error } = thrower()
  t.is(await t.throwsAsync(appendFile(scratch.path(), bytes, { onProgress })), error)
})

testOnEachBackend('a checksum of a file reports its progress, and is the same', async (t, engine) => {
  const path = ofManyParts()
  const file = await engine.open(path, 'r+')
  await file.write(pattern(5 * MIB + 3), { position: 31 * MIB + 1 })
  for (const options of [
    {},
    { position: 17, length: 100 * MIB + 5 },
    { chunk: 3 * MIB + 1 },
    { chunk: 100 * MIB },
    { length: 0 },
  ]) {
    const reports: Progress[] = []
    const sums = await file.checksum({ ...options, onProgress: (progress) => void reports.push(progress) })
    t.deepEqual(sums, await file.checksum(options))
    const { position = 0, length = 320 * MIB } = options as { position?: number; length?: number }
    checkProgress(t, reports, Math.min(length, 320 * MIB - position))
  }
  const { onProgress, error } = thrower()
  t.is(await t.throwsAsync(file.checksum({ onProgress })), error)
  const beyond = { position: 319 * MIB, length: 2 * MIB, onProgress: (): void => {} }
  await rejected(t, () => file.checksum(beyond), 'ERR_DEEPRING_EOF')
  await file.close()
})
