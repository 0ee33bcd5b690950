/**
 * The backend over node:fs: its pure parts against the native ones, what it refuses, and a quick part of the suite on it.
 * `npm run test:node` runs the rest.
 */

import { execFile } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import { crc32c, crc32cCombine, DTYPES } from '../index.ts'
import { combine, crc32c as summed } from '../lib/node/crc32c.ts'
import { BITS } from '../lib/node/dtype.ts'
import { JsonFault, JsonReader } from '../lib/node/json.ts'
import { Latency } from '../lib/node/latency.ts'
import { makeScratch } from './harness.ts'
import { root, run } from './packed.ts'

const scratch = makeScratch()

/** Quick files of the suite, of each part of the backend. */
const QUICK = ['exact', 'many', 'append', 'hostile-tensors', 'safetensors-stream']

const isNode = process.env['DEEPRING_BACKEND'] === 'node'
const testNatively = isNode ? test.skip : test

testNatively('checksums are those of the native engine', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.uint8Array({ maxLength: 100 }), (a, b) => {
      const [one, two] = [summed(a), summed(b)]
      t.is(one, crc32c(a))
      t.is(summed(b, one), crc32c(b, one))
      t.is(combine(one, two, b.length), crc32cCombine(one, two, b.length))
    }),
  )
  t.is(combine(1, 2, 5 * 2 ** 40), crc32cCombine(1, 2, 5 * 2 ** 40), 'lengths can have more than 32 bits')
})

test('the checksum of the standard is right', (t) => {
  t.is(summed(Buffer.from('123456789')), 0xe306_9283)
})

test('it knows the element types', (t) => {
  const bits = Object.entries(DTYPES).map(([name, dtype]) => [name, dtype.bits])
  t.deepEqual({ ...BITS }, Object.fromEntries(bits))
})

/** What `JSON.parse` makes of a text, if it does. */
function parsed(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) }
  } catch {
    return undefined
  }
}

/** What the reader makes of a text, if it does. */
function read(text: string): { readonly value: unknown } | undefined {
  try {
    const reader = new JsonReader(Buffer.from(text))
    let value: unknown
    if (text.trimStart().startsWith('"')) value = reader.string()
    else reader.skip()
    reader.end()
    return { value }
  } catch (error) {
    if (error instanceof JsonFault) return undefined
    throw error
  }
}

test('it takes as JSON what is JSON, and nothing else', (t) => {
  fc.assert(fc.property(fc.json(), (text) => void t.truthy(read(text), text)))
  const nearly = fc
    .tuple(
      fc.json(),
      fc.nat(),
      fc.constantFrom('', ',', '"', '\\', '0', '}', ']', '{', '[', ':', ' ', '-', '.', 'e', '\n'),
    )
    .map(([text, at, piece]) => {
      const place = at % (text.length + 1)
      return text.slice(0, place) + piece + text.slice(place + 1)
    })
  fc.assert(
    fc.property(nearly, (text) => {
      // Lone surrogates cannot be written in UTF-8, and numbers beyond all doubles are refused.
      fc.pre(!/[\ud800-\udfff]/.test(text) && !/\\u[dD][89a-fA-F]/.test(text) && !/\d{200}|[eE][+-]?\d{3}/.test(text))
      const [ours, other] = [read(text), parsed(text)]
      t.is(ours === undefined, other === undefined, JSON.stringify(text))
      if (typeof other?.value === 'string') t.is(ours?.value, other.value)
    }),
    { numRuns: 2000 },
  )
})

test('a duration is at most the upper end of its bucket, and more than 15/16 of it', (t) => {
  fc.assert(
    fc.property(fc.nat(2 ** 31 - 1), (us) => {
      const latency = new Latency()
      latency.add(us)
      const { count, upToUs, minUs, maxUs, p50Us, sumUs } = latency.histogram
      t.deepEqual([count, minUs, maxUs, p50Us, sumUs], [1, us, us, us, us])
      t.true((upToUs[0] as number) >= us && us >= (upToUs[0] as number) * (15 / 16))
    }),
  )
})

/** Runs a program over node:fs, and returns what it prints as JSON. */
async function programmed(source: string): Promise<unknown> {
  const program = `import * as deepring from './index.ts'\n${source}`
  const { status, stdout, stderr } = await run(process.execPath, ['--input-type=module', '-e', program], root, {
    DEEPRING_BACKEND: 'node',
  })
  if (status !== 0 || stderr !== '') throw new Error(stderr)
  return JSON.parse(stdout)
}

test('it says what it is, without a warning for who has asked for it', async (t) => {
  const found = await programmed(`
    const { backend, reason, version } = await deepring.info()
    const advice = await deepring.doctor()
    console.log(JSON.stringify({ backend, reason, advice, direct: (await deepring.info('.')).path.direct }))`)
  t.deepEqual(found, { backend: 'node', reason: 'asked for by DEEPRING_BACKEND', advice: [], direct: false })
})

test('what it cannot do is refused, and says so', async (t) => {
  const path = JSON.stringify(scratch.path('refused'))
  const found = (await programmed(`
    const { openCheckpoints } = await import('./lib/checkpoint/index.ts')
    const { openSafetensors, saveSafetensors, convertTensor } = await import('./lib/safetensors/index.ts')
    const { openSwap, SwapStore, OptimizerSwapper } = await import('./lib/swap/index.ts')
    const tensor = { dtype: 'BF16', shape: [2], data: new Uint16Array(2) }
    await saveSafetensors(${path}, { tensor })
    const model = await openSafetensors(${path})
    const file = await deepring.open(${path})
    const refusals = {
      checkpoint: () => openCheckpoints(${path} + '-store', { create: true }),
      swap: () => openSwap(${path} + '-swap', { memory: 1 << 20, create: true }),
      over: () => SwapStore.over(model, { memory: 1 << 20 }),
      shards: () => saveSafetensors(${path} + '-shards', { tensor }, { shardBytes: 1 << 20 }),
      convert: () => convertTensor(tensor, 'F32'),
      share: () => file.share(),
      engine: () => new deepring.Engine({ backend: 'threads' }),
      direct: () => deepring.open(${path}, 'r', { direct: 'require' }),
    }
    const found = {}
    for (const [name, call] of Object.entries(refusals)) {
      try {
        await call()
      } catch ({ name: kind, code, message }) {
        found[name] = { kind, code, message }
      }
    }
    await model.close()
    await file.close()
    console.log(JSON.stringify(found))`)) as Record<string, { kind: string; code: string; message: string }>
  const { direct, ...others } = found
  t.is(direct?.code, 'ERR_DEEPRING_DIRECT')
  t.deepEqual(Object.keys(others), ['checkpoint', 'swap', 'over', 'shards', 'convert', 'share', 'engine'])
  for (const [name, { kind, code, message }] of Object.entries(others)) {
    t.deepEqual([name, kind, code], [name, 'DeepringError', 'ERR_DEEPRING_UNSUPPORTED'])
    t.regex(message, /node:fs|DEEPRING_BACKEND/)
  }
})

test('under the permission model of Node, files are written, replaced and copied, and flushed where Node can', async (t) => {
  const folder = scratch.directory('permitted')
  const permissions = ['--permission', '--allow-fs-read=*', `--allow-fs-write=${folder}/`, '--input-type=module', '-e']
  const permitted = async (program: string): Promise<unknown> => {
    const environment = { DEEPRING_BACKEND: 'node' }
    const { status, stdout, stderr } = await run(process.execPath, [...permissions, program], root, environment)
    t.is(status, 0, stderr)
    return JSON.parse(stdout)
  }
  // Node 26 refuses it to all handles.
  const flushes = await permitted(`
    import { open } from 'node:fs/promises'
    const file = await open(${JSON.stringify(folder)} + '/probe', 'w')
    console.log(JSON.stringify(await file.sync().then(() => true, ({ code }) => code)))`)
  t.true(flushes === true || flushes === 'ERR_ACCESS_DENIED')
  const found = await permitted(`
    import { copyFile, open, readFile, writeFile } from './index.ts'
    import { openSafetensors, saveSafetensors } from './lib/safetensors/index.ts'
    const path = (name) => ${JSON.stringify(folder)} + '/' + name
    const outcome = (promise) => promise.then(() => 'flushed', ({ code, message }) => [code, message])
    const bias = { bias: { dtype: 'U8', shape: [3], data: Uint8Array.of(1, 2, 3) } }
    const file = await open(path('a'), 'w+')
    await file.write(new Uint8Array(10).fill(7), { position: 0 })
    const flushed = [
      await outcome(file.sync()),
      await outcome(file.datasync()),
      await outcome(writeFile(path('b'), 'durable', { replace: true })),
      await outcome(saveSafetensors(path('d'), bias)),
    ]
    await file.close()
    const durable = ${flushes === true}
    if (!durable) await writeFile(path('b'), 'durable', { replace: true, durable })
    await copyFile(path('b'), path('c'))
    await copyFile(path('b'), path('c'), { replace: true, durable })
    if (!durable) await saveSafetensors(path('d'), bias, { durable })
    const model = await openSafetensors(path('d'))
    const { data } = await model.tensor('bias')
    await model.close()
    const refused = await open(${JSON.stringify(scratch.path('outside'))}, 'w').catch(({ code, syscall }) => [code, syscall])
    console.log(JSON.stringify([flushed, Buffer.from(await readFile(path('c'))).toString(), [...data], refused]))`)
  const [flushed, copied, data, refused] = found as [unknown[], string, number[], string[]]
  if (flushes === true)
    t.deepEqual(
      flushed,
      flushed.map(() => 'flushed'),
    )
  else
    for (const [code, message] of flushed as [string, string][]) {
      t.is(code, 'EACCES')
      t.regex(message, /\(Node runs with --permission: f(data)?sync API is disabled/)
    }
  t.deepEqual([copied, data, refused], ['durable', [1, 2, 3], ['EACCES', 'open']])
  t.deepEqual(readdirSync(folder).toSorted(), ['a', 'b', 'c', 'd', 'probe'], 'what was refused has left nothing')
})

testNatively('a quick part of the suite holds over node:fs', async (t) => {
  const parameters = [join(root, 'scripts/node-backend.mjs'), ...QUICK]
  const { status, output } = await new Promise<{ status: unknown; output: string }>((resolve) => {
    execFile(process.execPath, parameters, { cwd: root, maxBuffer: 2 ** 26 }, (error, stdout) =>
      resolve({ status: error?.code ?? 0, output: stdout }),
    )
  })
  t.is(status, 0, output)
  t.regex(output, /\n\d{2,} passed, 0 failed, \d+ skipped\n$/)
})
