/**
 * Bad input: each gets a typed error before anything is touched, promises reject instead of throwing, and the file
 * stays as it was.
 */

import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  allocate,
  allocateTensor,
  allocateUnsafe,
  Engine,
  info,
  open,
  type FileHandle,
  type ReadOptions,
} from '../index.ts'
import { AioHandle, aioRead, aioReadSync, aioWrite, aioWriteSync } from '../lib/aio/index.ts'
import { contents, makeScratch, pattern, rejected, same } from './harness.ts'

const scratch = makeScratch()

const TYPE = 'ERR_DEEPRING_INVALID_ARG_TYPE'
const VALUE = 'ERR_DEEPRING_INVALID_ARG_VALUE'
const RANGE = 'ERR_DEEPRING_OUT_OF_RANGE'
const DETACHED = 'ERR_DEEPRING_DETACHED'

/** Anything at all, where the types would not let it pass. */
// oxlint-disable-next-line typescript/no-explicit-any
type Anything = any

type Row = readonly [title: string, value: Anything, code: string]

const resizable = (): Uint8Array => new Uint8Array(new (ArrayBuffer as Anything)(8, { maxByteLength: 64 }))
const fixedOnResizable = (): Uint8Array => new Uint8Array(new (ArrayBuffer as Anything)(8, { maxByteLength: 64 }), 0, 4)
function detachedView<T extends ArrayBufferView>(view: T): T {
  structuredClone(view.buffer, { transfer: [view.buffer as ArrayBuffer] })
  return view
}

const buffers: readonly Row[] = [
  ['nothing', undefined, TYPE],
  ['null', null, TYPE],
  ['a number', 4096, TYPE],
  ['a string', 'bytes', TYPE],
  ['an array', [1, 2, 3], TYPE],
  ['a bare ArrayBuffer', new ArrayBuffer(8), TYPE],
  ['a bare SharedArrayBuffer', new SharedArrayBuffer(8), TYPE],
  ['a length-tracking view of a resizable buffer', resizable(), VALUE],
  ['a fixed view of a resizable buffer', fixedOnResizable(), VALUE],
  ['a detached view', detachedView(new Uint8Array(8)), DETACHED],
  ['a detached view of another kind', detachedView(new Float64Array(8)), DETACHED],
  ['a detached DataView', detachedView(new DataView(new ArrayBuffer(8))), DETACHED],
  ['a tensor without a shape', { dtype: 'U8', data: new Uint8Array(8) }, TYPE],
  ['a tensor without an element type', { shape: [8], data: new Uint8Array(8) }, TYPE],
  ['a tensor whose data is no view', { dtype: 'U8', shape: [8], data: [1, 2] }, TYPE],
  ['a tensor whose shape is less than its data', { dtype: 'U8', shape: [2, 3], data: new Uint8Array(8) }, VALUE],
  ['a tensor whose shape is more than its data', { type: 'float32', dims: [3], data: new Float32Array(2) }, VALUE],
  ['a tensor of negative extent', { dtype: 'U8', shape: [-1], data: new Uint8Array(8) }, VALUE],
  ['a tensor of fractional extent', { dtype: 'U8', shape: [0.5, 16], data: new Uint8Array(8) }, VALUE],
  [
    'a tensor of more elements than can be counted',
    { dtype: 'U8', shape: [2 ** 40, 2 ** 40], data: new Uint8Array(8) },
    VALUE,
  ],
  ['a detached tensor', { dtype: 'U8', shape: [8], data: detachedView(new Uint8Array(8)) }, DETACHED],
]

const positions: readonly Row[] = [
  ['missing', undefined, TYPE],
  ['null', null, TYPE],
  ['a string', '0', TYPE],
  ['a boolean', true, TYPE],
  ['negative', -1, RANGE],
  ['fractional', 0.5, RANGE],
  ['NaN', Number.NaN, RANGE],
  ['infinite', Infinity, RANGE],
  ['unsafe', 2 ** 53, RANGE],
  ['a negative bigint', -1n, RANGE],
  ['an unsafe bigint', 2n ** 53n, RANGE],
  ['so high that the end is unsafe', Number.MAX_SAFE_INTEGER - 7, RANGE],
]

const paths: readonly Row[] = [
  ['missing', undefined, TYPE],
  ['null', null, TYPE],
  ['a number', 7, TYPE],
  ['an object', { path: 'x' }, TYPE],
  ['a string with a NUL', 'weights\0.bin', VALUE],
  ['a Buffer with a NUL', Buffer.from('weights\0.bin'), VALUE],
  ['a URL with a NUL', new URL('file:///weights%00.bin'), VALUE],
  ['a URL of another scheme', new URL('https://example.com/weights.bin'), VALUE],
  ['a URL with an encoded slash', new URL('file:///a%2Fb'), VALUE],
]

/** A file with known bytes, open for both, and a check that it is as it was. */
async function untouched(t: ExecutionContext, run: (file: FileHandle, path: string) => Promise<void>): Promise<void> {
  const path = scratch.file(pattern(5000))
  const file = await open(path, 'r+')
  await run(file, path)
  await file.close()
  t.true(same(contents(path), pattern(5000)), 'the file is as it was')
}

for (const [title, value, code] of buffers) {
  test(`a buffer that is ${title} is refused`, (t) =>
    untouched(t, async (file, path) => {
      await rejected(t, () => file.read(value, { position: 0 }), code)
      await rejected(t, () => file.write(value, { position: 0 }), code)
      await rejected(t, () => aioRead(value, path), code)
      await rejected(t, () => aioWrite(value, path), code)
      t.throws(() => aioReadSync(value, path), { code })
      t.throws(() => aioWriteSync(value, path), { code })
      const handle = new AioHandle()
      for (const method of ['read', 'write', 'pread', 'pwrite'] as const)
        await rejected(t, () => handle[method](value, path), code)
      for (const method of ['syncPread', 'syncPwrite', 'asyncPread', 'asyncPwrite'] as const) {
        t.throws(() => handle[method](value, path), { code }, method)
      }
      t.is(await handle.wait(), 0)
    }))
}

for (const [title, value, code] of positions) {
  test(`a position that is ${title} is refused`, (t) =>
    untouched(t, async (file, path) => {
      const buffer = new Uint8Array(8)
      await rejected(t, () => file.read(buffer, { position: value }), code)
      await rejected(t, () => file.write(buffer, { position: value }), code)
      if (value === undefined) return
      const handle = new AioHandle()
      for (const method of ['read', 'write', 'pread', 'pwrite'] as const) {
        await rejected(t, () => handle[method](buffer, path, { fileOffset: value }), code)
      }
      for (const method of ['syncPread', 'syncPwrite', 'asyncPread', 'asyncPwrite'] as const) {
        t.throws(() => handle[method](buffer, path, { fileOffset: value }), { code }, method)
      }
      t.is(await handle.wait(), 0)
    }))
}

test('a position that is null or missing is refused, because there is no cursor', (t) =>
  untouched(t, async (file, path) => {
    const buffer = new Uint8Array(8)
    for (const options of [{ position: null }, { position: undefined }, {}] as Anything[]) {
      for (const call of [() => file.read(buffer, options), () => file.write(buffer, options)])
        // oxlint-disable-next-line no-await-in-loop -- one call at a time
        t.regex((await rejected(t, call, TYPE)).message, /^The "options.position" property .* no cursor .* Received/)
    }
    const options = { fileOffset: null } as Anything
    const error = await rejected(t, () => new AioHandle().pread(buffer, path, options), TYPE)
    t.regex(error.message, /"options.fileOffset" property .* no cursor/)
  }))

for (const [title, value, code] of paths) {
  test(`a path that is ${title} is refused`, async (t) => {
    const buffer = new Uint8Array(8)
    await rejected(t, () => open(value), code)
    if (value !== undefined) await rejected(t, () => info(value), code)
    await rejected(t, () => aioRead(buffer, value), code)
    await rejected(t, () => aioWrite(buffer, value), code)
    t.throws(() => aioReadSync(buffer, value), { code })
    t.throws(() => aioWriteSync(buffer, value), { code })
    const handle = new AioHandle()
    await rejected(t, () => handle.pread(buffer, value), code)
    t.throws(() => handle.asyncPwrite(buffer, value), { code })
  })
}

test('offsets and lengths beyond the buffer are refused', (t) =>
  untouched(t, async (file) => {
    const buffer = new Uint8Array(8)
    for (const method of ['read', 'write'] as const) {
      const move = (options: ReadOptions): Promise<unknown> =>
        method === 'read' ? file.read(buffer, options) : file.write(buffer, options)
      await rejected(t, () => move({ position: 0, offset: 9 }), RANGE)
      await rejected(t, () => move({ position: 0, length: 9 }), RANGE)
      await rejected(t, () => move({ position: 0, offset: 4, length: 5 }), RANGE)
      await rejected(t, () => move({ position: 0, offset: -1 }), RANGE)
      await rejected(t, () => move({ position: 0, length: 0.5 }), RANGE)
      await rejected(t, () => move({ position: 0, length: '4' as Anything }), TYPE)
    }
  }))

test('unknown options are refused, by name', (t) =>
  untouched(t, async (file, path) => {
    const buffer = new Uint8Array(8)
    const error = await rejected(t, () => file.read(buffer, { position: 0, postion: 1 } as Anything), VALUE)
    t.regex(error.message, /postion/)
    t.regex(error.message, /position, offset, length, priority, checksum, signal, exact, expect/)
    await rejected(t, () => file.write(buffer, { position: 0, exact: true } as Anything), VALUE)
    await rejected(t, () => file.read(buffer, { position: 0, timeout: 5 } as Anything), VALUE)
    await rejected(t, () => file.sync({ datasync: true } as Anything), VALUE)
    await rejected(t, () => file.stat({ bigints: true } as Anything), VALUE)
    await rejected(t, () => file.truncate(0, { force: true } as Anything), VALUE)
    await rejected(t, () => open(path, 'r', { directly: 'never' } as Anything), VALUE)
    await rejected(t, () => info(path, { verbose: true } as Anything), VALUE)
    await rejected(t, () => aioRead(buffer, path, { block_size: 4096 } as Anything), VALUE)
    t.throws(() => aioWriteSync(buffer, path, { signal: AbortSignal.timeout(1000) } as Anything), { code: VALUE })
    t.throws(() => new Engine({ queue_depth: 4 } as Anything), { code: VALUE })
    t.throws(() => new AioHandle({ thread_count: 4 } as Anything), { code: VALUE })
    const handle = new AioHandle()
    await rejected(t, () => handle.read(buffer, path, { position: 0 } as Anything), VALUE)
    t.throws(() => handle.asyncPread(buffer, path, { offset: 0 } as Anything), { code: VALUE })
    await rejected(t, () => handle.wait({ timeout: 4 } as Anything), VALUE)
  }))

test('options of the wrong type are refused', (t) =>
  untouched(t, async (file, path) => {
    const buffer = new Uint8Array(8)
    for (const options of [null, 5, 'r', true, undefined] as Anything[])
      await rejected(t, () => file.read(buffer, options), TYPE)
    for (const options of [null, 5, 'r', true] as Anything[]) {
      await rejected(t, () => file.sync(options), TYPE)
      await rejected(t, () => open(path, 'r', options), TYPE)
      await rejected(t, () => aioRead(buffer, path, options), TYPE)
      t.throws(() => new Engine(options), { code: TYPE })
      t.throws(() => new AioHandle(options), { code: TYPE })
    }
    await rejected(t, () => file.read(buffer, { position: 0, exact: 1 } as Anything), TYPE)
    await rejected(t, () => file.read(buffer, { position: 0, signal: {} } as Anything), TYPE)
    await rejected(t, () => open(path, 'r', { direct: true } as Anything), TYPE)
    await rejected(t, () => open(path, 'r', { direct: 'always' } as Anything), VALUE)
    for (const [priority, code] of [
      ['urgent', VALUE],
      ['', VALUE],
      ['Latency', VALUE],
      [1, TYPE],
      [null, TYPE],
    ] as const) {
      // oxlint-disable-next-line no-await-in-loop -- one row of the table at a time
      await rejected(t, () => open(path, 'r', { priority } as Anything), code)
      // oxlint-disable-next-line no-await-in-loop -- as above
      await rejected(t, () => file.read(buffer, { position: 0, priority } as Anything), code)
      // oxlint-disable-next-line no-await-in-loop -- as above
      await rejected(t, () => file.write(buffer, { position: 0, priority } as Anything), code)
      t.throws(() => new AioHandle({ priority } as Anything), { code })
    }
    await rejected(t, () => open(path, 'w', { mode: true } as Anything), TYPE)
    await rejected(t, () => open(path, 'w', { mode: 0o10000 }), RANGE)
    await rejected(t, () => open(path, 'w', { syncDirectory: 'yes' } as Anything), TYPE)
    await rejected(t, () => aioRead(buffer, path, { validate: 1 } as Anything), TYPE)
    await rejected(t, () => aioRead(buffer, path, { singleSubmit: 'true' } as Anything), TYPE)
    await rejected(t, () => aioWrite(buffer, path, { overlapEvents: 0 } as Anything), TYPE)
    await rejected(t, () => new AioHandle().read(buffer, path, true as Anything), TYPE)
    await rejected(t, () => new AioHandle().read(buffer, path, 4096 as Anything), TYPE)
    t.throws(() => new AioHandle({ engine: {} as Anything }), { code: TYPE })
  }))

for (const flags of ['', 'as', 'xa', 'rs', 'rs+', 'rw', 'R', 'x', 'wb', 'w+x', 'toString'] as Anything[]) {
  test(`the flags '${flags}' are refused`, (t) =>
    untouched(t, async (_file, path) => {
      await rejected(t, () => open(path, flags), VALUE)
    }))
}

test('flags that are neither a string nor a number are refused', (t) =>
  untouched(t, async (_file, path) => {
    for (const flags of [true, 2n, null, {}] as Anything[]) await rejected(t, () => open(path, flags), TYPE)
  }))

test('options that contradict the flags are refused', (t) =>
  untouched(t, async (_file, path) => {
    await rejected(t, () => open(path, 'r', { mode: 0o600 }), VALUE)
    await rejected(t, () => open(path, 'r+', { syncDirectory: true }), VALUE)
    await rejected(t, () => open(path, 'a', { direct: 'require' }), VALUE)
  }))

const counts: readonly Row[] = [
  ['zero', 0, RANGE],
  ['negative', -1, RANGE],
  ['fractional', 1.5, RANGE],
  ['NaN', Number.NaN, RANGE],
  ['infinite', Infinity, RANGE],
  ['absurd', 2 ** 40, RANGE],
  ['a string', '8', TYPE],
  ['a bigint', 8n, TYPE],
  ['null', null, TYPE],
]

for (const [title, value, code] of counts) {
  test(`a block size, depth or parallelism that is ${title} is refused`, (t) =>
    untouched(t, async (_file, path) => {
      const buffer = new Uint8Array(5000)
      for (const key of ['blockSize', 'queueDepth'] as const) {
        t.throws(() => new Engine({ [key]: value }), { code }, key)
        t.throws(() => new AioHandle({ [key]: value }), { code }, key)
        await rejected(t, () => aioWrite(buffer, path, { [key]: value }), code)
        t.throws(() => aioReadSync(buffer, path, { [key]: value }), { code }, key)
      }
      t.throws(() => new AioHandle({ intraOpParallelism: value }), { code })
      t.throws(() => new Engine({ maxQueued: value }), { code })
      if (title !== 'absurd') t.throws(() => new Engine({ inFlightBytes: value }), { code })
    }))
}

test('block size, depth and parallelism have the documented bounds', (t) => {
  t.throws(() => new AioHandle({ queueDepth: 65_537 }), { code: RANGE })
  t.throws(() => new AioHandle({ blockSize: 2 ** 30 + 1 }), { code: RANGE })
  t.throws(() => new AioHandle({ intraOpParallelism: 1025 }), { code: RANGE })
  t.notThrows(() => new AioHandle({ queueDepth: 65_536, blockSize: 2 ** 30, intraOpParallelism: 1024 }))
  t.notThrows(() => new AioHandle({ queueDepth: 1, blockSize: 1, intraOpParallelism: 1 }))
})

test('an engine whose bytes in flight are less than one block is refused', (t) => {
  t.throws(() => new Engine({ blockSize: 1 << 20, inFlightBytes: 4096 }), { code: VALUE })
  t.throws(() => new Engine({ window: 'auto', blockSize: 1 << 20, inFlightBytes: 4096 }), { code: VALUE })
  for (const [window, code] of [
    ['found', VALUE],
    ['', VALUE],
    [true, TYPE],
    [null, TYPE],
  ] as const)
    t.throws(() => new Engine({ window: window as never }), { code })
})

test('an unknown backend is refused', (t) => {
  t.throws(() => new Engine({ backend: 'libaio' as Anything }), { code: VALUE })
  t.throws(() => new Engine({ backend: 1 as Anything }), { code: TYPE })
})

for (const [title, value, code] of [
  ['missing', undefined, TYPE],
  ['a string', '4096', TYPE],
  ['negative', -1, RANGE],
  ['fractional', 0.5, RANGE],
  ['NaN', Number.NaN, RANGE],
  ['unsafe', 2 ** 53, RANGE],
] as readonly Row[]) {
  test(`an amount of memory that is ${title} is refused`, (t) => {
    t.throws(() => allocate(value), { code })
    t.throws(() => allocateUnsafe(value), { code })
    t.throws(() => new AioHandle().newCpuLockedTensor(value, new Uint8Array()), { code })
  })
}

test('more memory than exists is a typed error', (t) => {
  t.throws(() => allocate(2 ** 52), { code: 'ENOMEM', name: 'DeepringError' })
  t.throws(() => allocateTensor('F64', [2 ** 20, 2 ** 29]), { code: 'ENOMEM', name: 'DeepringError' })
})

test('invalid element types and shapes are refused', (t) => {
  t.throws(() => allocateTensor('float32' as Anything, [1]), { code: VALUE })
  t.throws(() => allocateTensor('toString' as Anything, [1]), { code: VALUE })
  t.throws(() => allocateTensor(undefined as Anything, [1]), { code: TYPE })
  t.throws(() => allocateTensor('F32', 4 as Anything), { code: TYPE })
  t.throws(() => allocateTensor('F32', [-1]), { code: VALUE })
  t.throws(() => allocateTensor('F32', [1.5]), { code: VALUE })
  t.throws(() => allocateTensor('F32', ['2'] as Anything), { code: VALUE })
  t.throws(() => allocateTensor('F64', [2 ** 53 - 1]), { code: VALUE })
})

test('a missing file, a directory and a file in a file fail as in node:fs', async (t) => {
  const folder = scratch.directory('folder')
  const file = scratch.file('abc')
  const missing = await rejected(t, () => open(`${folder}/none`), 'ENOENT')
  t.is(missing.errno, -2)
  t.is(missing.syscall, 'open')
  t.is(missing.path, `${folder}/none`)
  t.is(missing.message, `ENOENT: no such file or directory, open '${folder}/none'`)
  await rejected(t, () => open(''), 'ENOENT')
  await rejected(t, () => open(folder), 'EISDIR')
  await rejected(t, () => open(folder, 'r+'), 'EISDIR')
  await rejected(t, () => open(folder, 'w'), 'EISDIR')
  await rejected(t, () => open(`${file}/below`), 'ENOTDIR')
  await rejected(t, () => open(`${folder}/none/new`, 'w'), 'ENOENT')
  await rejected(t, () => open(`${folder}/${'n'.repeat(300)}`, 'w'), 'ENAMETOOLONG')
  for (const call of [aioRead, aioWrite] as const) await rejected(t, () => call(new Uint8Array(3), folder), 'EISDIR')
  await rejected(t, () => aioRead(new Uint8Array(3), `${folder}/none`), 'ENOENT')
  await rejected(t, () => info(`${folder}/none`), 'ENOENT')
})

const root = process.getuid?.() === 0
// Permissions do not restrict root, so root drops its rights for this test. The file is where any user gets to, and the
// binary is loaded before: the checkout can lie below a folder that only its owner can enter.
test.serial('a file without permission fails with EACCES', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'deepring-'))
  const path = join(folder, 'file')
  writeFileSync(path, 'abc')
  await (await open(path)).close()
  chmodSync(folder, 0o755)
  chmodSync(path, 0o000)
  if (root) process.seteuid?.(65_534)
  try {
    await rejected(t, () => open(path), 'EACCES')
    await rejected(t, () => open(path, 'r+'), 'EACCES')
    await rejected(t, () => aioRead(new Uint8Array(3), path), 'EACCES')
    await rejected(t, () => aioWrite(new Uint8Array(3), path), 'EACCES')
  } finally {
    if (root) process.seteuid?.(0)
    chmodSync(path, 0o600)
  }
  t.is(Buffer.from(contents(path)).toString(), 'abc')
  rmSync(folder, { recursive: true })
})

test('anything but a regular file or a block device is refused at once', async (t) => {
  const pipe = scratch.path('pipe')
  execFileSync('mkfifo', [pipe])
  for (const path of [pipe, '/dev/null', '/dev/zero']) {
    await rejected(t, () => open(path), 'ERR_DEEPRING_UNSUPPORTED')
    await rejected(t, () => open(path, 'r+'), 'ERR_DEEPRING_UNSUPPORTED')
    await rejected(t, () => aioRead(new Uint8Array(3), path), 'ERR_DEEPRING_UNSUPPORTED')
    await rejected(t, () => aioWrite(new Uint8Array(3), path), 'ERR_DEEPRING_UNSUPPORTED')
  }
})

test('aioRead refuses a file of another size than the buffer and reports both sizes', async (t) => {
  const path = scratch.file(pattern(5000))
  const buffer = new Uint8Array(6000).fill(9)
  const longer = await rejected(t, () => aioRead(buffer, path), 'ERR_DEEPRING_SIZE_MISMATCH')
  t.regex(longer.message, /5000/)
  t.regex(longer.message, /6000/)
  t.true(
    buffer.every((byte) => byte === 9),
    'nothing was read',
  )
  await rejected(t, () => aioRead(new Uint8Array(4999), path), 'ERR_DEEPRING_SIZE_MISMATCH')
  await rejected(t, () => aioRead(new Uint8Array(0), path), 'ERR_DEEPRING_SIZE_MISMATCH')
  t.throws(() => aioReadSync(new Uint8Array(4999), path), { code: 'ERR_DEEPRING_SIZE_MISMATCH' })
  await rejected(t, () => new AioHandle().read(new Uint8Array(4999), path), 'ERR_DEEPRING_SIZE_MISMATCH')
})
