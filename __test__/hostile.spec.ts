/**
 * Hostile arguments: for any arguments, functions that return promises do not throw, nothing crashes, and every
 * refusal is typed. What is accepted is what the documentation says.
 */

import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import test from 'ava'
import * as fc from 'fast-check'
import {
  DeepringError,
  Engine,
  info,
  open,
  allocate,
  allocateTensor,
  allocateUnsafe,
  type FileHandle,
} from '../index.ts'
import { AioHandle, aioRead, aioReadSync, aioWrite, aioWriteSync } from '../lib/aio/index.ts'
import { signalOf } from '../lib/core/abort.ts'
import { flagsOf } from '../lib/core/flags.ts'
import { booleanOf, bytesOf, integerOf, integerOrDefault, optionsOf, positionOf, wordOf } from '../lib/core/options.ts'
import { pathOf } from '../lib/core/path.ts'
import { handleLimitsOf } from '../lib/aio/tuning.ts'
import { elementsOf, viewOf } from '../lib/memory/view.ts'
import { contents, makeScratch, pattern, same } from './harness.ts'

const scratch = makeScratch()

/** Anything at all, where the types would not let it pass. */
// oxlint-disable-next-line typescript/no-explicit-any
type Anything = any

const REFUSALS = new Set([
  'ERR_DEEPRING_INVALID_ARG_TYPE',
  'ERR_DEEPRING_INVALID_ARG_VALUE',
  'ERR_DEEPRING_OUT_OF_RANGE',
  'ERR_DEEPRING_DETACHED',
])

/** Values that break what is careless: odd numbers, names of what every object inherits, objects that describe themselves badly. */
const odd: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    -0,
    Number.NaN,
    Infinity,
    2 ** 53,
    2 ** 53 - 1,
    2 ** 64,
    1e308,
    5e-324,
    -1n,
    2n ** 53n,
    2n ** 64n,
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '',
    '\0',
    '\ud800',
    'r\0',
    Symbol('s'),
    Object.create(null),
    Object.defineProperty(() => 1, 'name', { value: Symbol('name') }),
    { constructor: { name: '' } },
    { data: new Uint8Array(4), shape: [4], dtype: '__proto__' },
    { data: new Uint8Array(4), shape: { length: 1, 0: 4 }, dtype: 'U8' },
    { data: new Uint8Array(4), shape: [4n], dtype: 'U8' },
    { data: null, shape: [], dtype: 'U8' },
    new Date(Number.NaN),
    new URL('http://host/path'),
    new URL('file:///nul%00byte'),
    new URL('file://host/path'),
    new Uint8Array([0]),
    () => 1,
  ),
  fc.double(),
  fc.bigInt(),
)
const anything: fc.Arbitrary<unknown> = fc.oneof(
  odd,
  fc.anything({
    withBigInt: true,
    withDate: true,
    withMap: true,
    withSet: true,
    withTypedArray: true,
    withNullPrototype: true,
  }),
)

/** The result of a check, or `undefined` after a typed refusal. Any other error fails the test. */
function checked<T>(check: () => T): { value: T } | undefined {
  try {
    return { value: check() }
  } catch (error) {
    assert.ok(error instanceof DeepringError && REFUSALS.has(error.code), `${String(error)}`)
    return undefined
  }
}

const isBytes = (value: unknown): boolean =>
  typeof value === 'bigint'
    ? value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)
    : Number.isSafeInteger(value) && (value as number) >= 0

test('a number is accepted exactly if it is valid, and is not changed', (t) => {
  fc.assert(
    fc.property(anything, fc.nat(), (value, length) => {
      const bytes = checked(() => bytesOf(value, 'options.length'))
      assert.equal(bytes !== undefined, isBytes(value))
      if (bytes) assert.ok(BigInt(bytes.value) === BigInt(value as number))
      const position = checked(() => positionOf(value, 'options.position', length))
      assert.equal(position !== undefined, isBytes(value) && Number.isSafeInteger(Number(value) + length))
      const depth = checked(() => integerOf(value, 'options.queueDepth', 1, 65_536))
      assert.equal(
        depth !== undefined,
        Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_536,
      )
      const absent = checked(() => integerOrDefault(value, 'options.queueDepth', 1, 65_536))
      assert.equal(absent?.value, value === undefined ? 0 : depth?.value)
    }),
    { numRuns: 1500 },
  )
  t.pass()
})

test('words, flags, booleans, signals and options are accepted exactly if they are valid', (t) => {
  const words = ['require', 'prefer', 'never'] as const
  const known = new Set(['direct', 'mode'])
  const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND } = constants
  const creating = [0, O_CREAT, O_CREAT | O_EXCL].flatMap((creates) => [creates, creates | O_TRUNC])
  const writing = [O_WRONLY, O_RDWR].flatMap((access) => creating.map((creates) => access | creates))
  const numbers = [O_RDONLY, ...writing].flatMap((flags) => [flags, flags | O_APPEND])
  const flags = new Set<unknown>(['r', 'r+', 'w', 'w+', 'wx', 'wx+', 'a', 'a+', 'ax', 'ax+', ...numbers])
  const values = fc.oneof(anything, fc.constantFrom(...flags), fc.constantFrom(...numbers.map((n) => n + 2 ** 32)))
  fc.assert(
    fc.property(values, (value) => {
      assert.equal(
        checked(() => wordOf(value, 'options.direct', words)) !== undefined,
        words.includes(value as Anything),
      )
      assert.equal(checked(() => flagsOf(value)) !== undefined, flags.has(value))
      const flag = checked(() => booleanOf(value, 'options.validate', false))
      assert.equal(flag?.value, value === undefined ? false : typeof value === 'boolean' ? value : undefined)
      assert.equal(checked(() => signalOf(value)) !== undefined, value === undefined)
      const options = checked(() => optionsOf(value as Anything, known))
      if (options)
        assert.ok(
          Object.keys(options.value).every((key) => known.has(key) || (options.value as Anything)[key] === undefined),
        )
      checked(() => handleLimitsOf(Object(value) as Anything))
    }),
    { numRuns: 1500 },
  )
  t.pass()
})

test('a path is accepted exactly if it can name a file, and no byte of it is lost', (t) => {
  const paths = fc.oneof(anything, fc.string({ unit: 'binary' }), fc.uint8Array())
  fc.assert(
    fc.property(paths, (value) => {
      const path = checked(() => pathOf(value))
      if (!path) return
      assert.equal(path.value.bytes.includes(0), false)
      const written =
        typeof value === 'string'
          ? Buffer.from(value)
          : value instanceof URL
            ? path.value.bytes
            : Buffer.from(value as Uint8Array)
      assert.ok(path.value.bytes.subarray(path.value.bytes.length - written.length).equals(written))
    }),
    { numRuns: 1500 },
  )
  t.pass()
})

test('a view covers bytes of its memory and no others', (t) => {
  const memory = fc.oneof(
    fc.record({ kind: fc.constant('view'), offset: fc.nat({ max: 32 }), length: fc.nat({ max: 32 }) }),
    anything,
  )
  fc.assert(
    fc.property(memory, anything, anything, (value, offset, length) => {
      const made = value as { kind?: string; offset: number; length: number }
      const buffer = made?.kind === 'view' ? new Uint8Array(new ArrayBuffer(64), made.offset, made.length) : value
      const view = checked(() => viewOf(buffer, offset, length))
      if (!view) return
      const data = (ArrayBuffer.isView(buffer) ? buffer : (buffer as Anything).data) as ArrayBufferView
      const from = offset === undefined ? 0 : Number(offset)
      assert.equal(view.value.buffer, data.buffer)
      assert.ok(view.value.byteOffset === data.byteOffset + from)
      assert.ok(view.value.byteLength === (length === undefined ? data.byteLength - from : Number(length)))
      assert.ok(view.value.byteOffset + view.value.byteLength <= data.byteOffset + data.byteLength)
    }),
    { numRuns: 1500 },
  )
  fc.assert(
    fc.property(fc.array(anything, { maxLength: 5 }), (shape) => {
      const elements = checked(() => elementsOf(shape, 'shape'))
      if (elements) assert.ok(Number.isSafeInteger(elements.value) && elements.value >= 0)
    }),
  )
  t.pass()
})

/** Calls something that returns a promise: it must not throw, and what it rejects with must be typed. */
async function settled(call: () => Promise<unknown>): Promise<boolean> {
  let promise: Promise<unknown>
  try {
    promise = call()
  } catch (error) {
    assert.fail(`thrown, not rejected: ${String(error)}`)
  }
  try {
    await promise
    return true
  } catch (error) {
    assert.ok(error instanceof DeepringError && error.code !== '', String(error))
    return false
  }
}

/** Not a path: a string that happens to name a file would be opened, and rightly. */
const noPath = anything.filter(
  (value) => typeof value !== 'string' && !(value instanceof Uint8Array) && !(value instanceof URL),
)
/** Not a position, a length or options that a request could have. */
const few = { numRuns: 400 }

test('promise functions never throw, and refuse with a typed error anything but a path', async (t) => {
  await fc.assert(
    fc.asyncProperty(noPath, anything, anything, async (path: Anything, other: Anything, options: Anything) => {
      assert.equal(await settled(() => open(path, other, options)), false)
      assert.equal(await settled(() => aioRead(other, path, options)), false)
      assert.equal(await settled(() => aioWrite(other, path, options)), false)
      if (path !== undefined) assert.equal(await settled(() => info(path)), false)
      assert.equal(
        checked(() => aioReadSync(other, path, options)),
        undefined,
      )
      assert.equal(
        checked(() => aioWriteSync(other, path, options)),
        undefined,
      )
    }),
    few,
  )
  t.pass()
})

test('a path of any characters below a missing directory is refused with a typed error', async (t) => {
  const nowhere = scratch.path('nowhere')
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 300 }), async (name) => {
      const path = `${nowhere}/a${name.replaceAll('..', '')}`
      assert.equal(await settled(() => open(path, 'w')), false)
      assert.equal(await settled(() => aioRead(new Uint8Array(1), path)), false)
    }),
    few,
  )
  t.pass()
})

/** Calls every operation of an open file with arguments that are anything. */
async function callAll(file: FileHandle, buffer: Anything, options: Anything): Promise<void> {
  await settled(() => file.read(buffer, options))
  await settled(() => file.write(buffer, options))
  await settled(() => file.truncate(buffer))
  await settled(() => file.sync(options))
  await settled(() => file.datasync(options))
  await settled(() => file.stat(options))
}

test('operations on a file opened read-only never throw and do not change it', async (t) => {
  const before = pattern(10_000)
  const path = scratch.file(before)
  await using file = await open(path, 'r')
  const options = fc.oneof(
    anything,
    fc.record({ position: anything, offset: anything, length: anything }, { requiredKeys: [] }),
  )
  await fc.assert(
    fc.asyncProperty(fc.oneof(anything, fc.uint8Array()), options, async (buffer, given) =>
      callAll(file, buffer, given),
    ),
    few,
  )
  assert.ok(same(contents(path), before))
  t.pass()
})

test('constructors and allocators refuse with a typed error', async (t) => {
  const limit = fc.oneof(anything, fc.nat({ max: 70_000 }))
  const keys = { queueDepth: limit, blockSize: limit, backend: anything, inFlightBytes: limit, maxQueued: limit }
  const options = fc.oneof(anything, fc.record(keys, { requiredKeys: [] }))
  await fc.assert(
    fc.asyncProperty(options, async (given: Anything) => {
      const engine = checked(() => new Engine(given))
      await engine?.value.close()
      checked(() => new AioHandle(given))
    }),
    few,
  )
  // Nothing above 2^20: an allocation that succeeds is real.
  const size = anything.filter(
    (value) => !((typeof value === 'number' || typeof value === 'bigint') && value > 2 ** 20),
  )
  fc.assert(
    fc.property(size, anything, (bytes: Anything, dtype: Anything) => {
      checked(() => allocate(bytes))?.value[Symbol.dispose]()
      checked(() => allocateUnsafe(bytes))?.value[Symbol.dispose]()
      checked(() => allocateTensor(dtype, bytes))
    }),
    few,
  )
  t.pass()
})

/** As `bytesOf` would be with `Number(value)` in it. */
function lax(value: unknown): number {
  const number = Number(typeof value === 'symbol' ? Number.NaN : value)
  return Number.isNaN(number) ? bytesOf(value, 'x') : number
}

test('a checker that accepts too much is noticed', (t) => {
  assert.throws(() =>
    fc.assert(
      fc.property(anything, (value) => {
        let passed = true
        try {
          lax(value)
        } catch {
          passed = false
        }
        if (passed !== isBytes(value)) throw new Error('let through')
      }),
    ),
  )
  t.pass()
})
