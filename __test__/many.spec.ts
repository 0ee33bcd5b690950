/** `readMany` and `writeMany`: many ranges of a file in one call. */

import test, { type ExecutionContext } from 'ava'
import {
  allocate,
  crc32c,
  Engine,
  open,
  readMany,
  readManyBatches,
  type Bytes,
  type FileHandle,
  type Numbers,
  type Ranges,
} from '../index.ts'
import { contents, makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

const TYPE = 'ERR_DEEPRING_INVALID_ARG_TYPE'
const VALUE = 'ERR_DEEPRING_INVALID_ARG_VALUE'
const RANGE = 'ERR_DEEPRING_OUT_OF_RANGE'

const BYTES = 1_000_003
const content = pattern(BYTES)
/** Of the files of {@link filesWith}. */
const contentsOfFiles = [1, 2, 3].map((seed) => pattern(BYTES, seed))

/** A number that looks random, the same every time. */
function scattered(index: number, end: number): number {
  return (Math.imul(index + 1, 2_654_435_761) >>> 0) % end
}

async function withFile(flags: 'r' | 'r+', body: (file: FileHandle, path: string) => Promise<void>): Promise<void> {
  const path = scratch.file(content)
  const file = await open(path, flags)
  await body(file, path)
  await file.close()
}

testOnEachBackend('every range has its bytes, wherever it is', async (t, engine) => {
  const file = await engine.open(scratch.file(content))
  for (const length of [1, 128, 4096, 5000]) {
    const count = 500
    const positions = Array.from({ length: count }, (_, index) => scattered(index, BYTES - length))
    const lists: Numbers[] = [
      positions,
      positions.map(BigInt),
      Float64Array.from(positions),
      Uint32Array.from(positions),
      BigUint64Array.from(positions, BigInt),
    ]
    const expected = Buffer.concat(positions.map((position) => content.subarray(position, position + length)))
    for (const list of lists) {
      const buffer = engine.allocate(count * length)
      // oxlint-disable-next-line no-await-in-loop -- one after the other is enough
      const result = await file.readMany(buffer, { positions: list, lengths: length })
      t.true(same(buffer, expected))
      t.is(result.buffer, buffer)
      t.is(result.bytesRead, buffer.length)
      t.is(result.receipt.ranges, count)
      t.false('counts' in result)
    }
  }
  await file.close()
})

testOnEachBackend('ranges can lie anywhere in an ordinary buffer, in any order', async (t, engine) => {
  const file = await engine.open(scratch.file(content))
  const lengths = Uint32Array.from({ length: 300 }, (_, index) => scattered(index, 9000))
  const positions = Float64Array.from(lengths, (length, index) => scattered(index + 9, BYTES - length))
  // The last range comes first in memory.
  let next = 3
  const offsets = new Float64Array(300)
  for (let index = 299; index >= 0; index--) {
    offsets[index] = next
    next += (lengths[index] as number) + 5
  }
  const buffer = new Uint8Array(next).fill(0xee)
  await file.readMany(buffer, { positions, lengths, offsets })
  const expected = new Uint8Array(next).fill(0xee)
  lengths.forEach((length, index) => {
    const position = positions[index] as number
    expected.set(content.subarray(position, position + length), offsets[index])
  })
  t.true(same(buffer, expected))
  await file.close()
})

testOnEachBackend('writes of many ranges reach their places and no other', async (t, engine) => {
  const path = scratch.file(content)
  const file = await engine.open(path, 'r+')
  const expected = new Uint8Array(BYTES + 4000)
  expected.set(content)
  const positions = Float64Array.from({ length: 1000 }, (_, index) => index * 1003)
  const bytes = pattern(300 * 1000, 7)
  positions.forEach((position, index) => expected.set(bytes.subarray(index * 300, index * 300 + 300), position))
  const { bytesWritten, receipt } = await file.writeMany(bytes, { positions, lengths: 300 })
  t.is(bytesWritten, bytes.length)
  t.is(receipt.ranges, 1000)
  // The last one extends the file.
  t.true(same(contents(path), expected.subarray(0, 999 * 1003 + 300)))
  await file.close()
})

test('ranges can touch, overlap, repeat and be empty', async (t) => {
  await withFile('r', async (file) => {
    const positions = [100, 50, 100, 0, 110, BYTES, 60]
    const lengths = [10, 100, 10, 0, 10, 0, 5]
    const buffer = new Uint8Array(135)
    await file.readMany(buffer, { positions, lengths })
    const expected = positions.map((position, index) =>
      content.subarray(position, position + (lengths[index] as number)),
    )
    t.deepEqual(Buffer.from(buffer), Buffer.concat(expected))
    const { receipt } = await file.readMany(new Uint8Array(20), { positions: [0, 200], lengths: 10 }, { gap: 4096 })
    t.deepEqual([receipt.blocks, receipt.overread], [1, 190])
  })
})

test('the end of the file is an error of the first range that it cuts, or a count', async (t) => {
  await withFile('r', async (file) => {
    const ranges = { positions: [0, BYTES + 5, BYTES - 4, 9], lengths: 10 }
    const error = await rejected(t, () => file.readMany(new Uint8Array(40), ranges), 'ERR_DEEPRING_EOF')
    t.deepEqual([error.index, error.position, error.requested, error.transferred], [1, BYTES + 5, 10, 0])
    t.deepEqual(
      (error.errors as { index: number }[]).map(({ index }) => index),
      [1, 2],
    )
    const short = await file.readMany(new Uint8Array(40), ranges, { exact: false })
    t.deepEqual(short.counts, Float64Array.of(10, 0, 4, 10))
    t.is(short.bytesRead, 24)
    const partial = await file.readMany(new Uint8Array(40), ranges, { partial: true })
    t.deepEqual(partial.counts, Float64Array.of(10, 0, 4, 10))
    t.deepEqual(partial.statuses, Int32Array.of(0, 1, 1, 0))
    t.deepEqual(
      partial.errors?.map(({ code, index }) => [code, index]),
      [
        ['ERR_DEEPRING_EOF', 1],
        ['ERR_DEEPRING_EOF', 2],
      ],
    )
  })
})

test('ranges that are written twice, or read into the same memory, are refused', async (t) => {
  await withFile('r+', async (file, path) => {
    const write = (): Promise<unknown> => file.writeMany(new Uint8Array(30), { positions: [5, 90, 14], lengths: 10 })
    const error = await rejected(t, write, 'ERR_DEEPRING_OVERLAP')
    t.deepEqual([error.index, error.position], [2, 14])
    t.regex(error.message, /other one is range 0/)
    const read = (): Promise<unknown> =>
      file.readMany(new Uint8Array(30), { positions: [5, 90], lengths: 10, offsets: [10, 1] })
    t.is((await rejected(t, read, 'ERR_DEEPRING_OVERLAP')).index, 1)
    t.true(same(contents(path), content), 'nothing was written')
  })
})

test('a million ranges are one request, and one more is refused', async (t) => {
  const engine = new Engine({ maxQueued: 1 })
  const file = await engine.open(scratch.file(content))
  const count = 2 ** 20
  const positions = Float64Array.from({ length: count }, (_, index) => scattered(index, BYTES - 2))
  const buffer = new Uint8Array(count * 2)
  const { bytesRead, receipt } = await file.readMany(buffer, { positions, lengths: 2 })
  t.deepEqual([bytesRead, receipt.ranges], [count * 2, count])
  const wrong = positions.findIndex(
    (position, index) => buffer[index * 2] !== content[position] || buffer[index * 2 + 1] !== content[position + 1],
  )
  t.is(wrong, -1)
  const error = await rejected(
    t,
    () => file.readMany(buffer, { positions: new Float64Array(count + 1), lengths: 0 }),
    RANGE,
  )
  t.regex(error.message, /1048576/)
  await file.close()
  await engine.close()
})

test('the last of a million ranges is refused by its index, and nothing is touched', async (t) => {
  const count = 2 ** 20
  const last = `\\[${count - 1}\\]`
  const lists = {
    positions: new Float64Array(count),
    lengths: new Float64Array(count),
    offsets: new Float64Array(count),
  }
  const bad: readonly (readonly [list: keyof typeof lists, value: number, message: RegExp])[] = [
    ['positions', 0.5, new RegExp(`"ranges.positions${last}".* an integer. Received 0.5`)],
    ['positions', -1, new RegExp(`"ranges.positions${last}".*Received -1`)],
    ['positions', Number.MAX_SAFE_INTEGER + 1, new RegExp(`"ranges.positions${last}"`)],
    ['lengths', NaN, new RegExp(`"ranges.lengths${last}".*Received NaN`)],
    ['lengths', 11, new RegExp(`"ranges${last}".*within the 10 bytes of the buffer. Received '11 bytes at 0'`)],
    ['offsets', Infinity, new RegExp(`"ranges.offsets${last}".*Received Infinity`)],
    ['offsets', 11, new RegExp(`"ranges${last}".*Received '0 bytes at 11'`)],
  ]
  await withFile('r+', async (file, path) => {
    const buffer = new Uint8Array(10).fill(9)
    for (const [list, value, message] of bad) {
      lists[list][count - 1] = value
      for (const call of [file.readMany.bind(file), file.writeMany.bind(file)]) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other is enough
        const error = await rejected(t, () => call(buffer, lists), RANGE)
        t.regex(error.message, message)
      }
      lists[list][count - 1] = 0
    }
    const words = BigUint64Array.from({ length: 5000 }, () => 1n)
    words[4999] = 2n ** 53n
    const read = (): Promise<unknown> => file.readMany(buffer, { positions: words, lengths: 0 })
    t.regex((await rejected(t, read, RANGE)).message, /"ranges.positions\[4999\]".*Received 9007199254740992n/)
    const beyond = Float64Array.from({ length: 5000 }, (_, index) => (index < 4999 ? 0 : Number.MAX_SAFE_INTEGER))
    const end = (): Promise<unknown> =>
      file.readMany(buffer, { positions: beyond, lengths: 1, offsets: new Uint32Array(5000) })
    t.regex((await rejected(t, end, RANGE)).message, /"ranges.positions\[4999\]".*its end is a safe integer/)
    const packed = (): Promise<unknown> =>
      file.readMany(new Uint8Array(4999), { positions: new Uint32Array(5000), lengths: 1 })
    t.regex((await rejected(t, packed, RANGE)).message, /"ranges\[4999\]".*Received '1 bytes at 4999'/)
    t.true(buffer.every((byte) => byte === 9))
    t.true(same(contents(path), content))
  })
})

test('the lists of a call are the caller’s again at once', async (t) => {
  await withFile('r', async (file) => {
    const count = 100_000
    const positions = Float64Array.from({ length: count }, (_, index) => scattered(index, BYTES - 4))
    const lengths = new Uint32Array(count).fill(4)
    const offsets = BigUint64Array.from({ length: count }, (_, index) => BigInt(index * 4))
    const expected = new Uint8Array(count * 4)
    positions.forEach((position, index) => expected.set(content.subarray(position, position + 4), index * 4))
    const buffer = new Uint8Array(count * 4)
    const reading = file.readMany(buffer, { positions, lengths, offsets })
    positions.fill(NaN)
    lengths.fill(2 ** 32 - 1)
    offsets.fill(2n ** 64n - 1n)
    t.is((await reading).bytesRead, count * 4)
    t.true(same(buffer, expected))
  })
})

type Row = readonly [title: string, ranges: unknown, code: string]

const badRanges: readonly Row[] = [
  ['nothing', undefined, TYPE],
  ['null', null, TYPE],
  ['an unknown key', { positions: [0], lengths: 1, strides: 1 }, VALUE],
  ['no positions', { lengths: 1 }, TYPE],
  ['positions of another type', { positions: new Int32Array(1), lengths: 1 }, TYPE],
  ['a string as a position', { positions: ['1'], lengths: 1 }, TYPE],
  ['NaN as a position', { positions: [NaN], lengths: 1 }, RANGE],
  ['NaN in a typed array', { positions: Float64Array.of(NaN), lengths: 1 }, RANGE],
  ['a negative position', { positions: Float64Array.of(0, -1), lengths: 1 }, RANGE],
  ['half a position', { positions: Float64Array.of(0.5), lengths: 1 }, RANGE],
  ['2^53', { positions: Float64Array.of(2 ** 53), lengths: 1 }, RANGE],
  ['2^53 as a bigint', { positions: BigUint64Array.of(2n ** 53n), lengths: 1 }, RANGE],
  ['an end beyond 2^53', { positions: [Number.MAX_SAFE_INTEGER], lengths: 1 }, RANGE],
  ['no lengths', { positions: [0] }, TYPE],
  ['too few lengths', { positions: [0, 1], lengths: [1] }, VALUE],
  ['too many offsets', { positions: [0], lengths: 1, offsets: [0, 1] }, VALUE],
  ['a negative length', { positions: [0], lengths: -1 }, RANGE],
  ['more than the buffer', { positions: [0, 1], lengths: 6 }, RANGE],
  ['an offset outside the buffer', { positions: [0], lengths: 1, offsets: [10] }, RANGE],
]

test('bad ranges are refused before anything is touched', async (t) => {
  await withFile('r+', async (file, path) => {
    for (const [title, ranges, code] of badRanges) {
      for (const call of [file.readMany.bind(file), file.writeMany.bind(file)]) {
        // oxlint-disable-next-line no-await-in-loop -- the title belongs to one
        const error = await rejected(t, () => call(new Uint8Array(10), ranges as Ranges), code)
        t.truthy(error.message, title)
      }
    }
    const good: Ranges = { positions: [0], lengths: 1 }
    for (const options of [
      { exact: 1 },
      { partial: 'yes' },
      { gap: -1 },
      { gap: 0.5 },
      { priority: 'high' },
      { position: 0 },
    ]) {
      // oxlint-disable-next-line no-await-in-loop -- as above
      await t.throwsAsync(file.readMany(new Uint8Array(10), good, options as never), { name: 'DeepringError' })
    }
    await rejected(t, () => file.readMany('buffer' as unknown as Bytes, good), TYPE)
    t.true(same(contents(path), content))
  })
})

test('a file that is closed, or opened for the other direction, is refused', async (t) => {
  const ranges: Ranges = { positions: [0], lengths: 1 }
  const path = scratch.file(content)
  const reader = await open(path)
  await rejected(t, () => reader.writeMany(new Uint8Array(1), ranges), 'EBADF')
  await reader.close()
  await rejected(t, () => reader.readMany(new Uint8Array(1), ranges), 'ERR_DEEPRING_CLOSED')
  const writer = await open(scratch.path(), 'w')
  await rejected(t, () => writer.readMany(new Uint8Array(1), ranges), 'EBADF')
  await writer.close()
})

test('a close waits for a call with many ranges', async (t) => {
  const file = await open(scratch.file(content))
  const positions = Float64Array.from({ length: 100_000 }, (_, index) => scattered(index, BYTES - 8))
  const reading = file.readMany(allocate(800_000), { positions, lengths: 8 })
  await file.close()
  t.is((await reading).bytesRead, 800_000)
})

test('an aborted call rejects when the memory is the caller’s again', async (t) => {
  await using engine = new Engine()
  {
    await using file = await engine.open(scratch.file(content), 'r+')
    const positions = Float64Array.from({ length: 200_000 }, (_, index) => index * 5)
    for (const call of [file.readMany.bind(file), file.writeMany.bind(file)]) {
      const controller = new AbortController()
      const running = call(new Uint8Array(800_000), { positions, lengths: 4 }, { signal: controller.signal })
      controller.abort(new Error('enough'))
      // oxlint-disable-next-line no-await-in-loop -- one after the other is enough
      const error = await t.throwsAsync<Error & { code?: string }>(running, { name: 'AbortError' })
      t.is(error!.code, 'ABORT_ERR')
      t.is((error!.cause as Error).message, 'enough')
    }
  }
  t.is(engine.stats().queued, 0)
})

test('every range has its checksum, and a wrong one is named', async (t) => {
  await withFile('r+', async (file) => {
    const positions = Float64Array.from({ length: 3000 }, (_, index) => scattered(index, BYTES - 100))
    const buffer = new Uint8Array(300_000)
    const { receipt } = await file.readMany(buffer, { positions, lengths: 100 }, { checksum: 'crc32c' })
    const sums = receipt.checksums!
    t.deepEqual(
      sums,
      Uint32Array.from(positions, (position) => crc32c(content.subarray(position, position + 100))),
    )
    const again = await file.readMany(buffer, { positions, lengths: 100 }, { expect: sums })
    t.deepEqual(again.receipt.checksums, sums)
    const good = sums[2345]!
    sums[2345] = good ^ 1
    const read = (): Promise<unknown> => file.readMany(buffer, { positions, lengths: 100 }, { expect: sums })
    const error = await rejected(t, read, 'ERR_DEEPRING_CHECKSUM')
    t.deepEqual([error.index, error.position, error.actual, error.expected], [2345, positions[2345], good, sums[2345]])
    const partial = await file.readMany(buffer, { positions, lengths: 100 }, { expect: sums, partial: true })
    t.is(partial.statuses!.indexOf(1), 2345)
    t.is(partial.errors!.length, 1)
    const written = await file.writeMany(
      buffer.subarray(0, 20),
      { positions: [50, 9], lengths: 10 },
      { checksum: 'crc32c' },
    )
    t.deepEqual(
      written.receipt.checksums,
      Uint32Array.of(crc32c(buffer.subarray(0, 10)), crc32c(buffer.subarray(10, 20))),
    )
    const ranges: Ranges = { positions: [0, 1], lengths: 1 }
    await rejected(t, () => file.readMany(buffer, ranges, { expect: new Uint32Array(3) }), VALUE)
    await rejected(t, () => file.readMany(buffer, ranges, { expect: [1, 2] as never }), TYPE)
    await rejected(t, () => file.readMany(buffer, ranges, { checksum: 'md5' as never }), VALUE)
  })
})

// ---- several files ----

async function filesWith(t: ExecutionContext, engine?: Engine): Promise<FileHandle[]> {
  const opener = engine ?? Engine.default
  const files = await Promise.all(contentsOfFiles.map((bytes) => opener.open(scratch.file(bytes))))
  t.teardown(() => Promise.all(files.map((file) => file.close())))
  return files
}

test('ranges of several files are read in one promise', async (t) => {
  const files = await filesWith(t)
  const requests = files.map((file, index) => ({
    file,
    buffer: new Uint8Array(20),
    positions: [index * 100, 7],
    lengths: 10,
  }))
  const results = await readMany(requests)
  for (const [index, { buffer, bytesRead }] of results.entries()) {
    const expected = contentsOfFiles[index]!
    t.is(bytesRead, 20)
    t.is(buffer, requests[index]!.buffer)
    t.deepEqual(
      Buffer.from(buffer as Uint8Array),
      Buffer.concat([expected.subarray(index * 100, index * 100 + 10), expected.subarray(7, 17)]),
    )
  }
  t.deepEqual(await readMany([]), [])
  ;(requests[1] as { positions: number[] }).positions = [0, BYTES]
  const error = await rejected(t, () => readMany(requests), 'ERR_DEEPRING_EOF')
  t.is(error.index, 3, 'the index counts through all ranges')
  t.is(error.path, files[1]?.path)
})

function request(file: unknown): never {
  return { file, buffer: new Uint8Array(1), positions: [0], lengths: 1 } as never
}

test('files of two engines, and what is no file, are refused', async (t) => {
  const engine = new Engine()
  const [one] = await filesWith(t)
  const [other] = await filesWith(t, engine)
  await rejected(t, () => readMany([request(one), request(other)]), VALUE)
  await rejected(t, () => readMany([request({})]), TYPE)
  await rejected(t, () => readMany('files' as never), TYPE)
  await t.throwsAsync(readManyBatches([request(5)]).next(), { code: TYPE })
})

test('batches bring every range once, with its bytes', async (t) => {
  const files = await filesWith(t)
  const requests = files.map((file, index) => {
    const lengths = Uint32Array.from({ length: 3000 }, (_, range) => scattered(range + index, 700))
    const positions = Float64Array.from(lengths, (length, range) => scattered(range * 3 + index, BYTES - length))
    return { file, buffer: allocate(lengths.reduce((sum, length) => sum + length, 0)), positions, lengths }
  })
  const seen = new Uint8Array(9000)
  const starts = requests.map(({ lengths }) => {
    let next = 0
    return Float64Array.from(lengths, (length) => (next += length) - length)
  })
  let batches = 0
  for await (const batch of readManyBatches(requests)) {
    batches += 1
    for (const index of batch) {
      seen[index] = (seen[index] as number) + 1
      const [which, range] = [Math.floor(index / 3000), index % 3000]
      const { buffer, positions, lengths } = requests[which] as (typeof requests)[number]
      const [start, length, position] = [starts[which]?.[range], lengths[range], positions[range]] as number[]
      const found = buffer.subarray(start, (start as number) + (length as number))
      const expected = contentsOfFiles[which]!.subarray(position, (position as number) + (length as number))
      if (index % 500 === 0) t.true(same(found, expected))
    }
  }
  t.true(seen.every((times) => times === 1))
  t.true(batches >= 9)
})

test('a loop over batches that is left, aborted or fails leaves nothing behind', async (t) => {
  await using engine = new Engine()
  await using file = await engine.open(scratch.file(content))
  const positions = Float64Array.from({ length: 50_000 }, (_, index) => scattered(index, BYTES - 16))
  const all = { file, buffer: new Uint8Array(800_000), positions, lengths: 16 }
  for await (const batch of readManyBatches([all])) {
    t.true(batch.length > 0)
    break
  }
  t.is(engine.stats().queued, 0, 'nothing is in flight')
  const controller = new AbortController()
  const loop = async (): Promise<void> => {
    for await (const batch of readManyBatches([all], { signal: controller.signal })) controller.abort(batch)
  }
  await t.throwsAsync(loop(), { name: 'AbortError' })
  positions[40_000] = BYTES
  const failing = async (): Promise<void> => {
    for await (const batch of readManyBatches([all])) t.true(batch.length > 0)
  }
  const error = await rejected(t, failing, 'ERR_DEEPRING_EOF')
  t.is(error.index, 40_000)
  t.is(engine.stats().queued, 0)
})
