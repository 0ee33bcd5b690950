/** Optimizer swappers: a training within a budget is bit-equal to one in memory, and every error is what it says it is. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import test from 'ava'
import { Engine } from '../index.ts'
import { openCheckpoints } from '../lib/checkpoint/index.ts'
import { openSafetensors } from '../lib/safetensors/index.ts'
import {
  openOptimizerSwapper,
  OptimizerSwapper,
  type GroupLease,
  type OpenOptimizerOptions,
  type OptimizerGroup,
} from '../lib/swap/index.ts'
import { makeScratch, pattern, rejected, same, testOnEachBackend } from './harness.ts'
import { bytesIn, made, writeModel } from './model.ts'

const scratch = makeScratch()

const MIB = 1 << 20
const STATES = ['exp_avg', 'exp_avg_sq'] as const

/** A group as Adam has it, of F32. */
interface AdamGroup {
  readonly name: string
  readonly numel: number
  readonly states: typeof STATES
  readonly gradient: 'F32'
}

function adam(name: string, numel: number): AdamGroup {
  return { name, numel, states: STATES, gradient: 'F32' }
}

async function withSwapper<const G extends OptimizerGroup>(
  groups: readonly G[],
  body: (swapper: OptimizerSwapper<G>, directory: string) => Promise<void>,
  options?: Partial<OpenOptimizerOptions<G>>,
): Promise<void> {
  const directory = scratch.path('optimizer')
  const swapper = await openOptimizerSwapper(directory, { groups, create: true, ...options })
  await body(swapper, directory)
  await swapper.close()
}

/** Numbers between -1 and 1 that depend on the seed. */
function numbers(length: number, seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(pattern(length, seed), (byte) => byte / 128 - 1)
}

/** One update of Adam, in place. */
function update(param: Float32Array, m: Float32Array, v: Float32Array, g: Float32Array, step: number): void {
  const [c1, c2] = [1 - 0.9 ** step, 1 - 0.999 ** step]
  for (let i = 0; i < param.length; i += 1) {
    const gradient = g[i] as number
    m[i] = 0.9 * (m[i] as number) + 0.1 * gradient
    v[i] = 0.999 * (v[i] as number) + 0.001 * gradient * gradient
    param[i] = (param[i] as number) - (0.01 * ((m[i] as number) / c1)) / (Math.sqrt((v[i] as number) / c2) + 1e-8)
  }
}

/** The parts of all groups, read in a step that changes nothing. */
async function partsOf<G extends OptimizerGroup>(swapper: OptimizerSwapper<G>): Promise<Map<string, Uint8Array>> {
  const parts = new Map<string, Uint8Array>()
  for await (const group of swapper.step()) {
    parts.set(`${group.name}.param`, bytesIn(group.param).slice())
    for (const [name, state] of Object.entries<ArrayBufferView>(group.states))
      parts.set(`${group.name}.${name}`, bytesIn(state).slice())
    await group.close({ write: false })
  }
  return parts
}

for (const depth of [1, 2, 3, 4, 'auto'] as const) {
  testOnEachBackend(`a training over four times the budget is bit-equal, depth ${depth}`, async (t, engine) => {
    const groups = Array.from({ length: 40 }, (_, nth) => adam(`layer.${nth}`, 5000 + nth))
    const memory = depth === 'auto' ? 800_000 : (2 * depth + 1) * 4 * 24_576
    await withSwapper(
      groups,
      async (swapper) => {
        const models = groups.map(({ numel }, nth) => ({
          param: numbers(numel, nth),
          m: new Float32Array(numel),
          v: new Float32Array(numel),
        }))
        for (const [nth, { name }] of groups.entries())
          await swapper.initialize(name, { param: numbers(groups[nth]?.numel as number, nth) })
        for (let step = 1; step <= 3; step += 1) {
          for (const [nth, { name, numel }] of groups.entries()) {
            const gradient = numbers(numel, step * 100 + nth)
            const { param, m, v } = models[nth] as (typeof models)[0]
            update(param, m, v, gradient, step)
            await swapper.putGradient(name, 4001, gradient.subarray(4001))
            await swapper.putGradient(name, 0, gradient.subarray(0, 4001))
          }
          const order: string[] = []
          for await (const { name, param, states, gradient } of swapper.step()) {
            update(param, states.exp_avg, states.exp_avg_sq, gradient, step)
            order.push(name)
          }
          t.deepEqual(
            order,
            groups.map(({ name }) => name),
          )
        }
        const parts = await partsOf(swapper)
        for (const [nth, { name }] of groups.entries()) {
          const { param, m, v } = models[nth] as (typeof models)[0]
          t.true(same(parts.get(`${name}.param`) as Uint8Array, bytesIn(param)), name)
          t.true(same(parts.get(`${name}.exp_avg`) as Uint8Array, bytesIn(m)), name)
          t.true(same(parts.get(`${name}.exp_avg_sq`) as Uint8Array, bytesIn(v)), name)
        }
        const stats = swapper.stats()
        t.true(stats.usedMax <= stats.memory && stats.memory === memory, inspect(stats))
        t.is(stats.leases, 40 * 4)
        t.true(stats.read > 0 && stats.written > 0 && stats.overlap >= 0 && stats.overlap <= 1, inspect(stats))
        if (depth !== 'auto') t.is(stats.depth, depth)
      },
      { engine, depth, memory },
    )
  })
}

test('what a body of a loop does not finish is not written', async (t) => {
  const groups = ['a', 'b', 'c'].map((name) => ({ name, numel: 1000 }))
  await withSwapper(groups, async (swapper) => {
    const first = async (): Promise<(number | bigint | undefined)[]> =>
      [...(await partsOf(swapper)).values()].map((bytes) => new Float32Array(bytes.buffer)[0])
    const why = new Error('why')
    const failing = async (): Promise<void> => {
      for await (const { name, param } of swapper.step()) {
        param[0] = 1
        if (name === 'b') throw why
      }
    }
    t.is(await failing().catch((error: unknown) => error), why)
    t.deepEqual(await first(), [1, 0, 0])
    let kept: GroupLease<{ name: string; numel: number }> | undefined
    for await (const group of swapper.step({ order: ['c', 'a'] })) {
      group.param[0] = 2
      kept = group
      if (group.name === 'a') break
    }
    t.deepEqual(await first(), [1, 0, 2])
    t.throws(() => kept?.param, { code: 'ERR_DEEPRING_RELEASED' })
    const controller = new AbortController()
    const aborted = async (): Promise<void> => {
      for await (const { param } of swapper.step({ signal: controller.signal })) {
        param[0] = 3
        controller.abort()
      }
    }
    await t.throwsAsync(aborted(), { code: 'ABORT_ERR' })
    t.deepEqual(await first(), [3, 0, 2])
  })
})

test('a lease chooses what is written, and is gone afterwards', async (t) => {
  const group = { name: '__proto__', numel: 100, states: ['__proto__', 'b'], gradient: 'BF16' } as const
  await withSwapper([group], async (swapper) => {
    await swapper.putGradient('__proto__', 0, new Uint16Array(100).fill(7))
    for await (const lease of swapper.step()) {
      t.deepEqual([lease.name, lease.numel, lease.dtype, lease.released], ['__proto__', 100, 'F32', false])
      t.regex(inspect(lease), /^GroupLease \{ name: '__proto__', numel: 100, dtype: 'F32', released: false \}$/)
      const { param, states, gradient } = lease
      t.deepEqual(Object.keys(states), ['__proto__', 'b'])
      t.is(lease.states, states)
      t.deepEqual(gradient, new Uint16Array(100).fill(7))
      param[0] = 1
      states['__proto__'][0] = 2
      states.b[0] = 3
      gradient[0] = 9
      await rejected(t, () => lease.close({ write: ['c'] }), 'ERR_DEEPRING_INVALID_ARG_VALUE')
      await rejected(t, () => lease.close({ write: 'b' } as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
      await rejected(t, () => lease.close({ wirte: true } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
      await lease.close({ write: ['b', 'gradient'] })
      t.deepEqual([param.length, states.b.length, gradient.length, lease.released], [0, 0, 0, true])
      for (const look of [() => lease.param, () => lease.states, () => lease.gradient])
        t.throws(look, { code: 'ERR_DEEPRING_RELEASED' })
      await rejected(t, () => lease.close({ write: true }), 'ERR_DEEPRING_RELEASED')
      await lease.close()
      lease[Symbol.dispose]()
    }
    for await (const { param, states, gradient } of swapper.step()) {
      t.deepEqual([param[0], states['__proto__'][0], states.b[0]], [0, 0, 3])
      t.deepEqual([gradient[0], gradient[1]], [9, 7])
    }
    // It was used.
    for await (const { gradient } of swapper.step()) t.is(gradient[0], 0)
  })
})

test('groups are busy in a step, and one step runs at a time', async (t) => {
  await withSwapper([adam('a', 1000), adam('b', 1000)], async (swapper) => {
    for await (const group of swapper.step()) {
      if (group.name === 'b') continue
      const busy = async (): Promise<void> => {
        for await (const other of swapper.step()) t.fail(other.name)
      }
      await rejected(t, busy, 'ERR_DEEPRING_BUSY')
      await rejected(t, () => swapper.flush(), 'ERR_DEEPRING_BUSY')
      await rejected(t, () => swapper.initialize('b', { param: new Float32Array(1000) }), 'ERR_DEEPRING_BUSY')
      await rejected(t, () => swapper.putGradient('b', 0, new Float32Array(1)), 'ERR_DEEPRING_BUSY')
      t.throws(() => swapper.reset('b', STATES), { code: 'ERR_DEEPRING_BUSY' })
    }
    await swapper.flush()
    const missing = async (): Promise<void> => {
      for await (const group of swapper.step({ order: ['c'] })) t.fail(group.name)
    }
    await rejected(t, missing, 'ERR_DEEPRING_NOT_FOUND')
    const twice = async (): Promise<void> => {
      for await (const group of swapper.step({ order: ['a', 'a'] })) t.fail(group.name)
    }
    await rejected(t, twice, 'ERR_DEEPRING_INVALID')
  })
})

test('gradients come in pieces, once each', async (t) => {
  await withSwapper([adam('a', 3_000_000), { name: 'b', numel: 4 }], async (swapper) => {
    const gradient = numbers(3_000_000, 5)
    const cuts = [0, 1, 1025, 1_048_577, 2_999_999, 3_000_000]
    for (const nth of [3, 0, 4, 2, 1]) {
      const [from, to] = [cuts[nth] as number, cuts[nth + 1] as number]
      await swapper.putGradient('a', from, gradient.subarray(from, to))
    }
    await swapper.flushGradients()
    const overlap = await rejected(t, () => swapper.putGradient('a', 7, new Float32Array(1)), 'ERR_DEEPRING_OVERLAP')
    t.deepEqual([overlap.tensor, overlap.position], ['a.gradient', 28])
    const beyond = await rejected(
      t,
      () => swapper.putGradient('a', 3_000_000, new Float32Array(1)),
      'ERR_DEEPRING_OUT_OF_RANGE',
    )
    t.deepEqual([beyond.tensor, beyond.position], ['a.gradient', 12_000_000])
    await rejected(t, () => swapper.putGradient('b', 0, new Float32Array(1)), 'ERR_DEEPRING_INVALID')
    await rejected(t, () => swapper.putGradient('c', 0, new Float32Array(1)), 'ERR_DEEPRING_NOT_FOUND')
    for await (const group of swapper.step()) {
      if (group.name === 'b') t.is(group.gradient, undefined)
      else t.true(same(bytesIn(group.gradient as Float32Array<ArrayBuffer>), bytesIn(gradient)))
    }
  })
})

test('parts get their bytes from memory, from files, and from a snapshot', async (t) => {
  const groups = [adam('a', 1000), { ...adam('b', 6), resident: true }, { name: 'c', numel: 0 }]
  await withSwapper(
    groups,
    async (swapper) => {
      t.deepEqual(swapper.groups[1], {
        name: 'b',
        numel: 6,
        states: STATES,
        dtype: 'F32',
        gradient: 'F32',
        resident: true,
      })
      t.regex(inspect(swapper), /^OptimizerSwapper {\s+directory: '.*',\s+groups: 3,\s+closed: false\s+}$/)
      const path = scratch.path('model')
      const halves = new Uint16Array([0x3f80, 0x4000, 0x4040, 0xbf80, 0, 0x3f00])
      writeModel(path, [{ ...made('h', 'BF16', [2, 3], 12), data: bytesIn(halves) }])
      const model = await openSafetensors(path)
      await rejected(t, () => swapper.initializeFrom('b', model, { param: 'h' }), 'ERR_DEEPRING_INVALID')
      await swapper.initializeFrom('b', model, new Map([['param', 'h']]), { convert: true })
      await rejected(t, () => swapper.initializeFrom('b', model, { param: 'x' }), 'ERR_DEEPRING_NOT_FOUND')
      await model.close()
      await rejected(t, () => swapper.initializeFrom('b', model, { param: 'h' }), 'ERR_DEEPRING_CLOSED')
      await swapper.initialize('a', [
        ['param', numbers(1000, 1)],
        ['exp_avg', numbers(1000, 2)],
      ])
      const expected = await partsOf(swapper)
      t.deepEqual(
        new Float32Array(expected.get('b.param')?.buffer as ArrayBuffer),
        new Float32Array([1, 2, 3, -1, 0, 0.5]),
      )

      const store = await openCheckpoints(scratch.path('checkpoints'), { create: true })
      const writer = await store.begin({ step: 7 })
      await swapper.snapshot(writer)
      await writer.commit()
      await rejected(t, () => swapper.snapshot(writer), 'ERR_DEEPRING_CLOSED')
      swapper.reset('a', ['param', 'exp_avg'])
      swapper.reset('b', ['param'])
      for (const bytes of (await partsOf(swapper)).values()) t.true(bytes.every((byte) => byte === 0))
      const { checkpoint } = await store.latest()
      if (checkpoint === undefined) return t.fail()
      t.deepEqual(checkpoint.info('b.exp_avg').shape, [6])
      await swapper.restore(checkpoint)
      t.deepEqual(await partsOf(swapper), expected)
      await checkpoint.close()
      await store.close()

      await rejected(t, () => swapper.initialize('a', { param: new Float32Array(3) }), 'ERR_DEEPRING_INVALID')
      await rejected(t, () => swapper.initialize('a', { gradient: new Float32Array(1000) }), 'ERR_DEEPRING_INVALID')
      const error = await rejected(
        t,
        () => swapper.initialize('a', { x: new Float32Array(3) }),
        'ERR_DEEPRING_NOT_FOUND',
      )
      t.is(error.tensor, 'a.x')
      t.throws(() => swapper.reset('a', ['x']), { code: 'ERR_DEEPRING_NOT_FOUND' })
    },
    { durable: true },
  )
})

test('a swapper is open once, and finds what was flushed', async (t) => {
  const groups = [adam('a', 1000)]
  const directory = scratch.path('again')
  await rejected(t, () => openOptimizerSwapper(directory, { groups }), 'ENOENT')
  const engine = new Engine()
  const swapper = await openOptimizerSwapper(directory, { groups, create: true, engine })
  t.is(swapper.directory, directory)
  const error = await rejected(t, () => openOptimizerSwapper(directory, { groups }), 'ERR_DEEPRING_BUSY')
  t.is(error.path, directory)
  await swapper.initialize('a', { param: numbers(1000, 1) })
  await engine.close()
  await rejected(t, () => swapper.flush(), 'ERR_DEEPRING_CLOSED')
  t.throws(() => swapper.stats(), { code: 'ERR_DEEPRING_CLOSED' })
  await rejected(t, () => swapper.step().next(), 'ERR_DEEPRING_CLOSED')
  {
    await using again = await openOptimizerSwapper(directory, { groups })
    t.true(same((await partsOf(again)).get('a.param') as Uint8Array, bytesIn(numbers(1000, 1))))
  }
  const others = [adam('a', 1001)]
  t.is(
    (await rejected(t, () => openOptimizerSwapper(directory, { groups: others }), 'ERR_DEEPRING_FORMAT')).path,
    directory,
  )
  truncateSync(join(directory, 'data'), 4096)
  t.is(
    (await rejected(t, () => openOptimizerSwapper(directory, { groups }), 'ERR_DEEPRING_FORMAT')).reason,
    'truncated',
  )
})

test('a swapper that was killed in a step is torn, or as it was flushed', async (t) => {
  const groups = [{ name: 'a', numel: 1000 }]
  for (const durable of [false, true]) {
    const directory = scratch.path('torn')
    const program = join(import.meta.dirname, 'programs', 'swap-optimizer-killed.ts')
    const child = spawn(process.execPath, [program, directory, String(durable)], { stdio: 'inherit' })
    t.deepEqual(await once(child, 'exit'), [null, 'SIGKILL'])
    if (!durable) {
      const error = await rejected(t, () => openOptimizerSwapper(directory, { groups }), 'ERR_DEEPRING_TORN')
      t.is(error.path, directory)
    }
    const swapper = await openOptimizerSwapper(directory, { groups, durable, create: !durable })
    const expected = new Float32Array(1000).fill(durable ? 1 : 0)
    t.true(same((await partsOf(swapper)).get('a.param') as Uint8Array, bytesIn(expected)))
    await swapper.close()
  }
})

test('memory that is transferred is an error', async (t) => {
  await withSwapper([adam('a', 500_000)], async (swapper) => {
    const param = new Float32Array(500_000)
    const initializing = swapper.initialize('a', { param })
    structuredClone(param.buffer, { transfer: [param.buffer] })
    t.is((await rejected(t, () => initializing, 'ERR_DEEPRING_DETACHED')).tensor, 'a.param')
    await swapper.initialize('a', { param: numbers(500_000, 1) })
    if (typeof (ArrayBuffer.prototype as { transfer?: unknown }).transfer !== 'function') return
    for await (const lease of swapper.step()) {
      ;(lease.param.buffer as ArrayBuffer & { transfer(): ArrayBuffer }).transfer()
      await rejected(t, () => lease.close(), 'ERR_DEEPRING_DETACHED')
    }
    t.true(same((await partsOf(swapper)).get('a.param') as Uint8Array, bytesIn(numbers(500_000, 1))))
  })
})

test('arguments are checked before anything happens', async (t) => {
  const directory = scratch.path('checked')
  const [type, value, range] = [
    'ERR_DEEPRING_INVALID_ARG_TYPE',
    'ERR_DEEPRING_INVALID_ARG_VALUE',
    'ERR_DEEPRING_OUT_OF_RANGE',
  ]
  const groups = [adam('a', 10)]
  for (const [options, code] of [
    [undefined, type],
    [{}, type],
    [{ groups: {} }, type],
    [{ groups: [7] }, type],
    [{ groups: [{}] }, type],
    [{ groups: [{ name: 'a' }] }, type],
    [{ groups: [{ name: 'a', numel: -1 }] }, range],
    [{ groups: [{ name: 'a', numel: 1.5 }] }, range],
    [{ groups: [{ name: 'a', numel: 3, dtype: 'F4' }] }, value],
    [{ groups: [{ name: 'a', numel: 3, gradient: 'F4' }] }, value],
    [{ groups: [{ name: 'a', numel: 3, dtype: 'X' }] }, value],
    [{ groups: [{ name: 'a', numel: 3, states: 'm' }] }, type],
    [{ groups: [{ name: 'a', numel: 3, states: [7] }] }, type],
    [{ groups: [{ name: 'a', numel: 3, resident: 1 }] }, type],
    [{ groups: [{ name: 'a', numel: 3, residents: true }] }, value],
    [{ groups, depth: 0 }, range],
    [{ groups, depth: 'deep' }, type],
    [{ groups, memory: -1 }, range],
    [{ groups, memory: '1' }, type],
    [{ groups, durable: 1 }, type],
    [{ groups, create: 1 }, type],
    [{ groups, engine: {} }, type],
    [{ groups, signal: 1 }, type],
    [{ groups, checksum: 'crc32c' }, value],
  ] as const)
    await rejected(t, () => openOptimizerSwapper(directory, options as never), code)
  await rejected(t, () => openOptimizerSwapper(7 as never, { groups }), type)
  const cannotBe: OptimizerGroup[][] = [
    [adam('a', 1), adam('a', 1)],
    [{ name: 'a', numel: 1, states: ['m', 'm'] }],
    [{ name: 'a', numel: 1, states: ['gradient'] }],
  ]
  for (const wrong of cannotBe)
    await rejected(t, () => openOptimizerSwapper(directory, { groups: wrong }), 'ERR_DEEPRING_INVALID')
  const short = await rejected(t, () => openOptimizerSwapper(directory, { groups, memory: 9 }), 'ERR_DEEPRING_BUDGET')
  t.deepEqual([short.needed, short.budget, short.tensor], [4 * 4096, 9, 'a'])
  t.false(existsSync(directory))
  t.throws(() => Reflect.construct(OptimizerSwapper, [{}]), { code: type })

  await withSwapper(
    groups,
    async (swapper) => {
      for (const [call, code] of [
        [() => swapper.initialize(7 as never, {}), type],
        [() => swapper.initialize('a', 7 as never), type],
        [() => swapper.initialize('a', { param: 7 } as never), type],
        [() => swapper.initialize('a', [7] as never), type],
        [() => swapper.initializeFrom('a', {} as never, {}), type],
        [() => swapper.putGradient('a', -1, new Float32Array(1)), range],
        [() => swapper.putGradient('a', '0' as never, new Float32Array(1)), type],
        [() => swapper.putGradient('a', 0, 7 as never), type],
        [() => swapper.snapshot({} as never), type],
        [() => swapper.restore({} as never), type],
        [() => swapper.flush({ now: true } as never), value],
      ] as [() => Promise<unknown>, string][])
        await rejected(t, call, code)
      for (const [call, code] of [
        [() => swapper.step({ order: 'a' } as never), type],
        [() => swapper.step({ order: [7] } as never), type],
        [() => swapper.step({ ordre: ['a'] } as never), value],
        [() => swapper.reset('a', 7 as never), type],
        [() => swapper.reset('a', [7] as never), type],
      ] as [() => unknown, string][])
        t.throws(call, { code })
    },
    { memory: MIB },
  )
})
