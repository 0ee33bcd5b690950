/**
 * Hostile and odd files: each case of crates/deepring-tensors/tests/hostile opens with the table that it states, or is
 * refused for the reason that it states. `tests/hostile.rs` there runs the same cases.
 */

import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import test from 'ava'
import { DeepringError } from '../index.ts'
import { openSafetensors, type SafetensorsFile } from '../lib/safetensors/index.ts'
import { casesOf, dataOf, writeDescribed, type Case, type Row } from './described.ts'
import { makeScratch, pause } from './harness.ts'

const scratch = makeScratch()

/** Tensors of a case are loaded if they have no more bytes. */
const LOADED_BYTES_MAX = 2 ** 20

/** A message has a name of at most 120 characters, a path and a sentence, whatever a file says. */
const MESSAGE_LENGTH_MAX = 4096

/** Where the data of the files of a case begin. */
type Starts = ReadonlyMap<string, number>

for (const name of ['headers.json', 'directories.json'])
  test.serial(`every case of ${name} opens or is refused as it states`, async (t) => {
    const failed: string[] = []
    for (const described of casesOf(name)) {
      const folder = scratch.directory('case')
      const files = described.files ?? { 'model.safetensors': described.file ?? {} }
      const starts = new Map(
        Object.entries(files).map(([path, file]) => [path, writeDescribed(join(folder, path), file)]),
      )
      try {
        await check(folder, starts, described)
      } catch (error) {
        failed.push(`row ${described.row}: ${described.name}: ${String(error)}`)
      } finally {
        rmSync(folder, { recursive: true })
      }
    }
    t.deepEqual(failed, [])
  })

async function check(folder: string, starts: Starts, described: Case): Promise<void> {
  const open = described.open ?? 'model.safetensors'
  const path = open.startsWith('/') ? open : join(folder, open)
  let model: SafetensorsFile
  try {
    model = await openSafetensors(path, described.options)
  } catch (error) {
    checkRefusal(folder, path, described, error)
    return
  }
  try {
    assert(described.opens, 'it opens')
    await checkTable(model, folder, starts, described.opens)
  } finally {
    await model.close()
  }
}

function checkRefusal(folder: string, path: string, described: Case, error: unknown): void {
  assert(error instanceof DeepringError, String(error))
  const { message } = error
  assert(described.opens === undefined, message)
  assert(message.length < MESSAGE_LENGTH_MAX, `a message of ${message.length} characters`)
  // oxlint-disable-next-line no-control-regex
  assert.doesNotMatch(message, /[\0-\x1f\x7f-\x9f\u202a-\u202e]/)
  const { fails, refused } = described
  assert.equal(error.tensor, (fails ?? refused)?.tensor)
  if (fails) {
    assert.equal(error.code, fails.code)
    assert(message.includes(fails.path ?? basename(path)), message)
    return
  }
  assert.equal(error.code, 'ERR_DEEPRING_FORMAT')
  assert.equal(error.reason, refused?.reason)
  assert.equal(error.path, refused?.path === undefined ? path : join(folder, refused.path))
  assert(message.includes(refused?.mentions ?? ''), message)
}

async function checkTable(
  model: SafetensorsFile,
  folder: string,
  starts: Starts,
  expected: NonNullable<Case['opens']>,
): Promise<void> {
  assert.equal(model.trailing, expected.trailing ?? 0)
  assert.deepEqual([...model.missing], expected.missing ?? [])
  assert.deepEqual([...model.unindexed], expected.unindexed ?? [])
  if (expected.metadata) assert.deepEqual(new Map(model.metadata), new Map(Object.entries(expected.metadata)))
  if (!expected.tensors) {
    assert.equal(model.size, expected.count)
    return
  }
  assert.deepEqual(
    [...model.names()],
    expected.tensors.map(([name]) => name),
  )
  const loaded = model.bytes <= LOADED_BYTES_MAX ? await model.load() : undefined
  for (const row of expected.tensors) {
    const [name, dtype, shape, begin, end] = row
    const { start, path } = placeOf(folder, starts, row)
    const info = model.info(name)
    assert.deepEqual(
      [info.name, info.dtype, info.shape, info.position, info.byteLength],
      [name, dtype, shape, start + begin, end - begin],
    )
    assert(path === undefined || info.path === path, info.path)
    if (!loaded) continue
    const tensor = loaded.get(name)
    assert(tensor, name)
    assert.deepEqual([tensor.name, tensor.dtype, tensor.shape], [name, dtype, shape])
    assert.deepEqual(Buffer.from(tensor.bytes), Buffer.from(dataOf(begin, end)))
    const { buffer, byteOffset, byteLength } = tensor.data
    assert(byteOffset === tensor.bytes.byteOffset && buffer === tensor.bytes.buffer && byteLength === end - begin)
  }
  loaded?.[Symbol.dispose]()
}

/** Where the data of a row's file begin, and its path, unless the file is a link. */
function placeOf(folder: string, starts: Starts, [, , , , , file]: Row): { start: number; path: string | undefined } {
  const withData = [...starts].filter(([, start]) => start > 0)
  const own = withData.find(([path]) => file === undefined || basename(path) === basename(file))
  const [path, start] = own ?? withData[0] ?? ['', 0]
  return { start, path: own && join(folder, path) }
}

test.serial('a header of 371 474 tensors does not hold up the event loop', async (t) => {
  const described = casesOf('headers.json').find(({ opens }) => opens?.count === 371_474)
  const path = scratch.path('model.safetensors')
  writeDescribed(path, described?.file ?? {})
  const delay = monitorEventLoopDelay({ resolution: 1 })
  // What the test itself left to the garbage collector is not counted.
  await pause(100)
  delay.enable()
  await pause(20)
  delay.reset()
  const model = await openSafetensors(path)
  await pause(5)
  delay.disable()
  t.is(model.size, 371_474)
  // Parsing it here would take most of a second. A busy machine delays a timer by some slices of time.
  t.true(delay.max < 100e6, `the loop stood still for ${delay.max / 1e6} ms`)
  await model.close()
})
