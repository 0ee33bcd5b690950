/**
 * The promise **exact**: a request moves exactly the bytes asked for, at any position, of any length, from and to any
 * address; no byte beside them changes; and the file is exactly as long as its last byte says.
 */

import { statSync } from 'node:fs'
import test from 'ava'
import * as fc from 'fast-check'
import { Engine, type FileHandle } from '../index.ts'
import { contents, makeScratch, pattern, same, testOnEachBackend } from './harness.ts'

const scratch = makeScratch()

/** Blocks small enough that a modest file has many, and few in flight, so that they queue. */
const SMALL = { blockSize: 65_536, queueDepth: 8 }

/**
 * Lengths and positions gather around the multiples of sectors, pages and blocks, where everything breaks that breaks.
 */
const near = (multiple: number, most: number): fc.Arbitrary<number> =>
  fc
    .tuple(fc.nat({ max: Math.floor(most / multiple) }), fc.integer({ min: -3, max: 3 }))
    .map(([times, off]) => Math.min(most, Math.max(0, times * multiple + off)))
const extent = (most: number): fc.Arbitrary<number> =>
  fc.oneof(near(512, most), near(4096, most), near(65_536, most), fc.nat({ max: most }))

/** Where the bytes of a request lie in memory. */
interface Placement {
  readonly engine: boolean
  readonly shift: number
}
const placement: fc.Arbitrary<Placement> = fc.record({
  engine: fc.boolean(),
  shift: fc.oneof(fc.constant(0), fc.constantFrom(1, 8, 16, 511, 512, 513, 4095), fc.nat({ max: 4096 })),
})

type Step =
  | { readonly kind: 'write'; readonly position: number; readonly length: number; readonly place: Placement }
  | { readonly kind: 'read'; readonly position: number; readonly length: number; readonly place: Placement }
  | { readonly kind: 'truncate'; readonly length: number }
  | { readonly kind: 'reopen' }

const MOST = 400_000
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      position: extent(MOST),
      length: extent(200_000),
      place: placement,
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('read' as const),
      position: extent(MOST),
      length: extent(200_000),
      place: placement,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('truncate' as const), length: extent(MOST) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reopen' as const }) },
)

/** Memory for a request, with guard bytes around it that must survive. */
function place(
  engine: Engine,
  length: number,
  { engine: own, shift }: Placement,
): { view: Uint8Array; intact: () => boolean } {
  const whole = own ? engine.allocate(shift + length + 64) : new Uint8Array(shift + length + 64)
  whole.fill(0xa5)
  const view = whole.subarray(shift, shift + length)
  const intact = (): boolean =>
    whole.subarray(0, shift).every((byte) => byte === 0xa5) &&
    whole.subarray(shift + length).every((byte) => byte === 0xa5)
  return { view, intact }
}

/** A file as it should be. */
class Model {
  bytes: Uint8Array = new Uint8Array(0)
  write(position: number, data: Uint8Array): void {
    if (data.length === 0) return
    this.truncate(Math.max(this.bytes.length, position + data.length))
    this.bytes.set(data, position)
  }
  truncate(length: number): void {
    const next = new Uint8Array(length)
    next.set(this.bytes.subarray(0, length))
    this.bytes = next
  }
}

async function apply(file: FileHandle, engine: Engine, model: Model, next: Step, seed: number): Promise<boolean> {
  if (next.kind === 'truncate') {
    await file.truncate(next.length)
    model.truncate(next.length)
  } else if (next.kind === 'write') {
    const { view, intact } = place(engine, next.length, next.place)
    view.set(pattern(next.length, seed))
    const { bytesWritten } = await file.write(view, { position: next.position })
    model.write(next.position, pattern(next.length, seed))
    if (bytesWritten !== next.length || !intact()) return false
  } else if (next.kind === 'read') {
    const { view, intact } = place(engine, next.length, next.place)
    const { bytesRead } = await file.read(view, { position: next.position, exact: false })
    const expected = model.bytes.subarray(next.position, next.position + next.length)
    if (bytesRead !== expected.length || !same(view.subarray(0, bytesRead), expected) || !intact()) return false
    // Beyond the end of the file, a direct read can leave zeros in the buffer, but nothing else.
    if (!view.subarray(bytesRead).every((byte) => byte === 0xa5 || byte === 0)) return false
  }
  return statSync(file.path).size === model.bytes.length
}

for (const direct of ['prefer', 'never'] as const) {
  testOnEachBackend(
    `any sequence of requests leaves the file that a model predicts, with direct: ${direct}`,
    async (t, engine) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 20 }), async (steps) => {
          const path = scratch.path()
          const model = new Model()
          let file = await engine.open(path, 'w+', { direct })
          try {
            for (const [i, next] of steps.entries()) {
              if (next.kind === 'reopen') {
                await file.close()
                file = await engine.open(path, 'r+', { direct })
              } else if (!(await apply(file, engine, model, next, i + 1))) return false
            }
          } finally {
            await file.close()
          }
          return same(contents(path), model.bytes)
        }),
        { numRuns: 40 },
      )
      t.pass()
    },
    SMALL,
  )
}

testOnEachBackend(
  'parallel requests on adjacent ranges lose no bytes of each other',
  async (t, engine) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 700 }), fc.integer({ min: 1, max: 90_000 })), {
          minLength: 2,
          maxLength: 24,
        }),
        fc.nat(),
        async (lengths, first) => {
          const path = scratch.path()
          const file = await engine.open(path, 'w+')
          const model = new Model()
          let position = first % 5000
          const writes = lengths.map((length, i) => {
            const at = position
            position += length
            model.write(at, pattern(length, i + 1))
            return { at, bytes: pattern(length, i + 1) }
          })
          // Backwards, so that every write but the first meets its right-hand neighbor in flight.
          await Promise.all(writes.toReversed().map(({ at, bytes }) => file.write(bytes, { position: at })))
          await file.close()
          return same(contents(path), model.bytes)
        },
      ),
      { numRuns: 40 },
    )
    t.pass()
  },
  SMALL,
)

testOnEachBackend(
  'two handles that pad, extend and trim one file lose no bytes and leave the right length',
  async (t, engine) => {
    const path = scratch.path()
    const handles = [await engine.open(path, 'w+'), await engine.open(path, 'r+')] as const
    const model = new Model()
    for (let round = 0; round < 60; round += 1) {
      // Unaligned neighbors that share sectors, divided among both handles, the last of them past the end of the file.
      let position = Math.max(0, model.bytes.length - 3000)
      const writes = Array.from({ length: 8 }, (_, i) => {
        const length = 1 + ((round * 131 + i * 977) % 1900)
        const at = position
        position += length
        return { at, bytes: pattern(length, round * 8 + i + 1), handle: handles[(round + i) % 2]! }
      })
      for (const { at, bytes } of writes) model.write(at, bytes)
      await Promise.all(writes.map(({ at, bytes, handle }) => handle.write(bytes, { position: at })))
      t.is(statSync(path).size, model.bytes.length, `the length after round ${round}`)
      if (round % 7 === 6) {
        const length = model.bytes.length - 1 - (round % 500)
        await handles[round % 2]!.truncate(length)
        model.truncate(length)
        t.is((await handles[(round + 1) % 2]!.stat()).size, length, 'one handle sees what the other cut off')
      }
      if (!same(contents(path), model.bytes)) return t.fail(`the bytes after round ${round}`)
    }
    for (const handle of handles) await handle.close()
    t.true(same(contents(path), model.bytes))
  },
  SMALL,
)

test('two engines on one file share its locks', async (t) => {
  const [one, two] = [new Engine(SMALL), new Engine(SMALL)]
  const path = scratch.path()
  const [a, b] = [await one.open(path, 'w+'), await two.open(path, 'r+')]
  const model = new Model()
  for (let round = 0; round < 40; round += 1) {
    const at = round * 1000
    model.write(at, pattern(500, 2 * round + 1))
    model.write(at + 500, pattern(500, 2 * round + 2))
    await Promise.all([
      a.write(pattern(500, 2 * round + 1), { position: at }),
      b.write(pattern(500, 2 * round + 2), { position: at + 500 }),
    ])
  }
  await Promise.all([one.close(), two.close()])
  t.true(same(contents(path), model.bytes))
})

testOnEachBackend('a file ends at its last byte, for every length around a sector and a page', async (t, engine) => {
  for (const length of [
    1, 2, 511, 512, 513, 1023, 1024, 4095, 4096, 4097, 8191, 8192, 8193, 65_535, 65_537, 1_048_575, 1_048_577,
  ]) {
    const path = scratch.path()
    const file = await engine.open(path, 'w')
    await file.write(pattern(length), { position: 0 })
    await file.close()
    t.true(same(contents(path), pattern(length)), `${length} bytes`)
  }
})

testOnEachBackend('a write into the middle changes no other byte and keeps the length', async (t, engine) => {
  const path = scratch.path()
  const file = await engine.open(path, 'w+')
  await file.write(pattern(50_000, 1), { position: 0 })
  const wanted = pattern(50_000, 1)
  for (const [position, length] of [
    [0, 1],
    [511, 2],
    [4095, 4098],
    [12_288, 4096],
    [12_289, 4095],
    [49_999, 1],
    [30_000, 17_777],
  ] as const) {
    await file.write(pattern(length, position + 2), { position })
    wanted.set(pattern(length, position + 2), position)
  }
  await file.close()
  t.true(same(contents(path), wanted))
})

testOnEachBackend('a hole reads as zeros', async (t, engine) => {
  const file = await engine.open(scratch.path(), 'w+')
  await file.write(pattern(10), { position: 1_000_001 })
  const { buffer } = await file.read(new Uint8Array(1_000_011), { position: 0 })
  t.true(buffer.subarray(0, 1_000_001).every((byte) => byte === 0))
  t.true(same(buffer.subarray(1_000_001), pattern(10)))
  await file.close()
})
