/**
 * Checksums: those of reads and writes are those of exactly the bytes that were moved, and a wrong one is found. They are
 * compared with an implementation that takes one bit at a time.
 */

import { truncateSync, writeFileSync } from 'node:fs'
import { inspect } from 'node:util'
import test from 'ava'
import {
  allocate,
  crc32c,
  crc32cAsync,
  crc32cCombine,
  DeepringError,
  Engine,
  open,
  type FileHandle,
  type ReadOptions,
} from '../index.ts'
import { makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

const TYPE = 'ERR_DEEPRING_INVALID_ARG_TYPE'
const VALUE = 'ERR_DEEPRING_INVALID_ARG_VALUE'
const RANGE = 'ERR_DEEPRING_OUT_OF_RANGE'
const CHECKSUM = 'ERR_DEEPRING_CHECKSUM'

/** Anything at all, where the types would not let it pass. */
// oxlint-disable-next-line typescript/no-explicit-any
type Anything = any

const text = new TextEncoder().encode('123456789')

function bitByBit(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1
  }
  return (crc ^ 0xffff_ffff) >>> 0
}

// ---- of memory ----

test('the check values are those of CRC-32C', (t) => {
  t.is(crc32c(new Uint8Array()), 0)
  t.is(crc32c(text), 0xe306_9283)
  t.is(crc32c(new Uint8Array(32)), 0x8a91_36aa)
  t.is(crc32c(new Uint8Array(32).fill(255)), 0x62a8_ab43)
})

test('it is the sum by definition, of any kind of view', (t) => {
  for (const length of [1, 7, 8, 63, 64, 1000, 4096, 10_001]) {
    const bytes = pattern(length, length)
    t.is(crc32c(bytes), bitByBit(bytes), `${length}`)
  }
  const floats = new Float32Array([1, 2, 3])
  const bytes = new Uint8Array(floats.buffer)
  t.is(crc32c(floats), bitByBit(bytes))
  t.is(crc32c(new DataView(floats.buffer, 4, 4)), bitByBit(bytes.subarray(4, 8)))
  t.is(crc32c({ dtype: 'F32', shape: [3], data: floats }), bitByBit(bytes))
  t.is(crc32c(new Uint8Array(new SharedArrayBuffer(5))), bitByBit(new Uint8Array(5)))
})

test('any split of 10 MB combines to the sum of all', async (t) => {
  const bytes = pattern(10_000_000)
  const whole = crc32c(bytes)
  t.is(await crc32cAsync(bytes), whole)
  for (const cut of [0, 1, 4095, 65_537, 4 << 20, 9_999_999, 10_000_000]) {
    const [a, b] = [bytes.subarray(0, cut), bytes.subarray(cut)]
    t.is(crc32cCombine(crc32c(a), crc32c(b), b.length), whole, `${cut}`)
    t.is(crc32c(b, crc32c(a)), whole, `${cut}`)
    t.is(await crc32cAsync(b, crc32c(a)), whole, `${cut}`)
  }
})

test('lengths beyond 32 bits combine, as numbers and bigints', (t) => {
  const mebibyte = crc32c(new Uint8Array(1 << 20))
  const zeros = (mebibytes: number): number => {
    let crc = 0
    for (let i = 0; i < mebibytes; i += 1) crc = crc32cCombine(crc, mebibyte, 1 << 20)
    return crc
  }
  const [one, four] = [zeros(1024), zeros(4096)]
  t.is(crc32cCombine(one, four, 2 ** 32), crc32cCombine(four, one, 2 ** 30))
  t.is(crc32cCombine(7, four, 2 ** 32), crc32cCombine(7, four, 1n << 32n))
  t.is(
    crc32cCombine(crc32cCombine(7, four, 2 ** 32), one, 2 ** 30),
    crc32cCombine(7, crc32cCombine(four, one, 2 ** 30), 5 * 2 ** 30),
  )
})

test('what is no memory and no checksum is refused', async (t) => {
  const bytes = new Uint8Array(4)
  for (const value of [undefined, null, 7, 'text', [1, 2], new ArrayBuffer(4)]) {
    t.throws(() => crc32c(value as Anything), { code: TYPE })
    await rejected(t, () => crc32cAsync(value as Anything), TYPE)
  }
  const gone = new Uint8Array(4)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  t.throws(() => crc32c(gone), { code: 'ERR_DEEPRING_DETACHED' })
  await rejected(t, () => crc32cAsync(gone), 'ERR_DEEPRING_DETACHED')
  for (const [value, code] of [
    [-1, RANGE],
    [2 ** 32, RANGE],
    [0.5, RANGE],
    [Number.NaN, RANGE],
    ['7', TYPE],
    [null, TYPE],
    [7n, TYPE],
  ] as const) {
    t.throws(() => crc32c(bytes, value as Anything), { code })
    await rejected(t, () => crc32cAsync(bytes, value as Anything), code)
    t.throws(() => crc32cCombine(value as Anything, 0, 1), { code })
    t.throws(() => crc32cCombine(0, value as Anything, 1), { code })
  }
  for (const [value, code] of [
    [-1, RANGE],
    [0.5, RANGE],
    [2 ** 53, RANGE],
    [1n << 53n, RANGE],
    ['7', TYPE],
    [undefined, TYPE],
  ] as const) {
    t.throws(() => crc32cCombine(0, 0, value as Anything), { code })
  }
})

test('memory that goes away while a thread sums it is reported', async (t) => {
  const memory = allocate(64 << 20)
  const sum = crc32cAsync(memory)
  memory[Symbol.dispose]()
  await rejected(t, () => sum, 'ERR_DEEPRING_DETACHED')
})

// ---- of transfers ----

testOnEachBackend(
  'reads and writes have the checksum of their bytes, aligned or not, in blocks or not',
  async (t, engine) => {
    const model = pattern(5_000_123)
    for (const direct of ['prefer', 'never'] as const) {
      const file = await engine.open(scratch.path(), 'w+', { direct })
      try {
        const written = await file.write(model, { position: 0, checksum: 'crc32c' })
        t.is(written.receipt.checksum, crc32c(model))
        const memory = engine.allocate(5 << 20)
        for (const [position, offset, length] of [
          [0, 0, 4096],
          [0, 0, 5_000_123],
          [4096, 0, 3 << 20],
          [1, 0, 300_000],
          [4095, 1, 2],
          [513, 7, 4_000_000],
          [0, 0, 0],
          [7_000_000, 0, 0],
        ] as const) {
          const { receipt } = await file.read(memory, { position, offset, length, checksum: 'crc32c' })
          const there = memory.subarray(offset, offset + length)
          t.true(same(there, model.subarray(position, position + length)))
          t.is(receipt.checksum, crc32c(there), `${position} ${offset} ${length}`)
        }
        const short = await file.read(memory, { position: 5_000_000, exact: false, checksum: 'crc32c' })
        t.is(short.bytesRead, 123)
        t.is(short.receipt.checksum, crc32c(model.subarray(5_000_000)))
        // An edge that is read, modified and written; and a write past the end.
        for (const [position, length] of [
          [4000, 500],
          [5_000_100, 70_000],
        ] as const) {
          const piece = pattern(length, position)
          const { receipt } = await file.write(piece, { position, checksum: 'crc32c' })
          t.is(receipt.checksum, crc32c(piece))
        }
      } finally {
        await file.close()
      }
    }
  },
  { blockSize: 1 << 20 },
)

testOnEachBackend(
  'a checksum that is not the expected one is an error, and the buffer is filled',
  async (t, engine) => {
    const path = scratch.path()
    const model = pattern(600_000)
    writeFileSync(path, model)
    const file = await engine.open(path, 'r')
    try {
      const buffer = new Uint8Array(500_000)
      const good = crc32c(model.subarray(70_000, 570_000))
      const { receipt } = await file.read(buffer, { position: 70_000, expect: good })
      t.is(receipt.checksum, good)
      const flipped = (good ^ 1) >>> 0
      buffer.fill(0)
      const options: ReadOptions = { position: 70_000, checksum: 'crc32c', expect: flipped }
      const error = await rejected(t, () => file.read(buffer, options), CHECKSUM)
      t.is(error.expected, flipped)
      t.is(error.actual, good)
      t.deepEqual([error.position, error.requested, error.transferred], [70_000, 500_000, 500_000])
      t.deepEqual([error.syscall, error.path], ['read', path])
      t.true(same(buffer, model.subarray(70_000, 570_000)))
      t.regex(error.message, /checksum/)
      await rejected(t, () => file.read(new Uint8Array(), { position: 0, expect: 1 }), CHECKSUM)
      t.is((await file.read(new Uint8Array(), { position: 0, expect: 0 })).receipt.checksum, 0)
      // A large and a small checksum cross as they are.
      for (const value of [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) {
        const { expected } = await rejected(
          t,
          () => file.read(new Uint8Array(9), { position: 3, expect: value }),
          CHECKSUM,
        )
        t.is(expected, value)
      }
      await rejected(
        t,
        () => file.read(new Uint8Array(9), { position: 599_999, exact: true, expect: 0 }),
        'ERR_DEEPRING_EOF',
      )
    } finally {
      await file.close()
    }
  },
)

test('without the option there is no checksum in the receipt', async (t) => {
  const file = await open(scratch.path(), 'w+')
  try {
    const { receipt: written } = await file.write(text, { position: 0 })
    const { receipt: read } = await file.read(new Uint8Array(9), {
      position: 0,
      checksum: undefined,
      expect: undefined,
    })
    t.false('checksum' in written)
    t.false('checksum' in read)
  } finally {
    await file.close()
  }
})

test('errors of other kinds have no checksums among their fields', async (t) => {
  const file = await open(scratch.path(), 'w+')
  try {
    const error = await rejected(
      t,
      () => file.read(new Uint8Array(9), { position: 0, exact: true, expect: 1 }),
      'ERR_DEEPRING_EOF',
    )
    t.false('expected' in error || 'actual' in error, inspect(error))
    t.true(error instanceof DeepringError)
  } finally {
    await file.close()
  }
})

test('options that are no checksum are refused before anything is touched', async (t) => {
  const path = scratch.path()
  await using engine = new Engine()
  const file = await engine.open(path, 'w+')
  try {
    const buffer = new Uint8Array(9).fill(7)
    const before = engine.stats().submitted
    for (const value of ['crc32', 'sha256', 'CRC32C', ''] as Anything[]) {
      await rejected(t, () => file.read(buffer, { position: 0, checksum: value }), VALUE)
      await rejected(t, () => file.write(buffer, { position: 0, checksum: value }), VALUE)
    }
    for (const value of [null, true, 7, {}] as Anything[]) {
      await rejected(t, () => file.read(buffer, { position: 0, checksum: value }), TYPE)
      await rejected(t, () => file.write(buffer, { position: 0, checksum: value }), TYPE)
    }
    for (const value of [-1, 2 ** 32, 0.5, Number.NaN, Infinity]) {
      await rejected(t, () => file.read(buffer, { position: 0, expect: value }), RANGE)
    }
    for (const value of ['7', 7n, null, new Uint32Array(1)] as Anything[]) {
      await rejected(t, () => file.read(buffer, { position: 0, expect: value }), TYPE)
    }
    // A write has nothing to compare with.
    await rejected(t, () => file.write(buffer, { position: 0, expect: 7 } as Anything), VALUE)
    t.is(engine.stats().submitted, before)
    t.is((await file.stat()).size, 0)
    t.true(buffer.every((byte) => byte === 7))
  } finally {
    await file.close()
  }
})

// ---- of a file ----

testOnEachBackend('a file has the checksum of its bytes, and of its chunks', async (t, engine) => {
  const path = scratch.path()
  const model = pattern(9_000_321)
  writeFileSync(path, model)
  for (const direct of ['prefer', 'never'] as const) {
    const file = await engine.open(path, 'r', { direct })
    try {
      t.is(await file.checksum(), crc32c(model))
      t.is(await file.checksum({}), crc32c(model))
      t.is(await file.checksum({ position: 1000n }), crc32c(model.subarray(1000)))
      t.is(await file.checksum({ position: 1001, length: 5_000_000 }), crc32c(model.subarray(1001, 5_001_001)))
      t.is(await file.checksum({ position: 1001, length: 0n }), 0)
      t.is(await file.checksum({ position: 10_000_000 }), 0)
      for (const [position, length, chunk] of [
        [0, 9_000_321, 1 << 20],
        [77, 8_000_000, 1000],
        [4096, 3 << 20, 8 << 20],
        [0, 9_000_321, 9_000_321],
      ] as const) {
        const sums = await file.checksum({ position, length, chunk })
        const expected = Array.from({ length: Math.ceil(length / chunk) }, (_, i) =>
          crc32c(model.subarray(position + i * chunk, position + Math.min((i + 1) * chunk, length))),
        )
        t.true(sums instanceof Uint32Array)
        t.deepEqual([...sums], expected, `${position} ${length} ${chunk}`)
      }
      t.deepEqual(await file.checksum({ length: 0, chunk: 1 }), new Uint32Array())
    } finally {
      await file.close()
    }
  }
  t.is(engine.stats().buffers, 0)
})

test('a file of 5 GiB has the checksum of its bytes', async (t) => {
  const path = scratch.path()
  writeFileSync(path, text)
  truncateSync(path, 5 * 2 ** 30)
  const mebibyte = crc32c(new Uint8Array(1 << 20))
  // The text, and zeros: what is left of the first MiB, and 5119 more.
  let expected = crc32cCombine(crc32c(text), crc32c(new Uint8Array((1 << 20) - 9)), (1 << 20) - 9)
  for (let i = 1; i < 5 * 1024; i += 1) expected = crc32cCombine(expected, mebibyte, 1 << 20)
  const file = await open(path, 'r')
  try {
    t.is(await file.checksum(), expected)
  } finally {
    await file.close()
  }
})

test('a range that the file does not have is an error that names it', async (t) => {
  const path = scratch.path()
  writeFileSync(path, pattern(100_000))
  const file = await open(path, 'r')
  try {
    const error = await rejected(t, () => file.checksum({ position: 10, length: 100_000 }), 'ERR_DEEPRING_EOF')
    t.deepEqual([error.position, error.requested, error.transferred], [10, 100_000, 99_990])
    t.is(error.path, path)
  } finally {
    await file.close()
  }
})

test('bad ranges, closed files and files that cannot be read are refused', async (t) => {
  const path = scratch.path()
  writeFileSync(path, text)
  const file = await open(path, 'r')
  const refuse = (options: Anything, code: string): Promise<unknown> => rejected(t, () => file.checksum(options), code)
  for (const name of ['position', 'length', 'chunk']) {
    for (const value of [-1, 0.5, Number.NaN, 2 ** 53, -1n]) await refuse({ [name]: value }, RANGE)
    for (const value of ['7', null, {}]) await refuse({ [name]: value }, TYPE)
  }
  await refuse({ chunk: 0 }, RANGE)
  await refuse({ length: 2 ** 40, chunk: 1 }, RANGE)
  await refuse({ position: 2 ** 53 - 1, length: 2 }, RANGE)
  await refuse({ priority: 'urgent' }, VALUE)
  await refuse({ offset: 0 }, VALUE)
  await refuse(null, TYPE)
  await refuse('all', TYPE)
  t.is(await file.checksum({ priority: 'background' }), 0xe306_9283)
  await file.close()
  await refuse({}, 'ERR_DEEPRING_CLOSED')
  const writeOnly = await open(scratch.path(), 'w')
  await rejected(t, () => writeOnly.checksum(), 'EBADF')
  await writeOnly.close()
})

test('an aborted checksum rejects at once, and its work ends', async (t) => {
  const path = scratch.path()
  writeFileSync(path, text)
  truncateSync(path, 64 * 2 ** 30)
  await using engine = new Engine()
  const file: FileHandle = await engine.open(path, 'r')
  const controller = new AbortController()
  const sum = file.checksum({ signal: controller.signal })
  setTimeout(() => controller.abort(new Error('enough')), 20)
  await t.throwsAsync(sum, { name: 'AbortError', code: 'ABORT_ERR' })
  // The close waits for the reads.
  await file.close()
  const { queued, buffers, readBytes } = engine.stats()
  t.deepEqual([queued, buffers], [0, 0])
  t.true(readBytes < 64 * 2 ** 30)
  await t.throwsAsync(() => file.checksum({ signal: AbortSignal.abort() }), { name: 'AbortError' })
})
