/** The command `deepring` in pipes: every verb, bad words, bad places, interruptions, and completions. */

import { execFileSync, spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { crc32c, Engine } from '../index.ts'
import { nodeContender } from '../lib/command/bench/node-fs.ts'
import { openPlace } from '../lib/command/bench/place.ts'
import { TASKS, type Task } from '../lib/command/bench/tasks.ts'
import { nearest } from '../lib/command/nearest.ts'
import { parse } from '../lib/command/parse.ts'
import { optionsOf, VERBS } from '../lib/command/verbs.ts'
import { openCheckpoints } from '../lib/checkpoint/index.ts'
import { openSafetensors, saveSafetensors, type SaveOptions } from '../lib/safetensors/index.ts'
import type { Contender } from '../lib/measure/rounds.ts'
import { openSwap } from '../lib/swap/index.ts'
import { deepring, deepringIn, documentOf, interrupted, refused } from './command.ts'
import { contents, makeScratch, pattern, same, tmpfs, type Mounted } from './harness.ts'

const scratch = makeScratch()
const MIB = 1 << 20
const NOTHING: never[] = []

const weights = Float32Array.from({ length: 4096 }, (_, index) => index / 7)
const TENSORS = {
  'layer.0.weight': { dtype: 'F32', shape: [64, 64], data: weights },
  'layer.0.bias': { dtype: 'F32', shape: [64], data: new Float32Array(64).fill(0.5) },
  'layer.1.weight': { dtype: 'BF16', shape: [8], data: new Uint16Array(8).fill(0x3f80) },
  steps: { dtype: 'I64', shape: [], data: new BigInt64Array([7n]) },
} as const

async function model(options: SaveOptions = { checksum: 'crc32c' }): Promise<string> {
  const path = `${scratch.path('model')}.safetensors`
  await saveSafetensors(path, TENSORS, { ...options, metadata: { from: 'a test' } })
  return path
}

/** Changes one byte. */
function damage(path: string, position: number): void {
  const bytes = readFileSync(path)
  bytes[position] = (bytes[position] as number) ^ 1
  writeFileSync(path, bytes)
}

/** A file system in memory. */
const small = tmpfs(scratch, 'small', 'size=16m')
const medium = tmpfs(scratch, 'medium', 'size=64m')
const readOnly = tmpfs(scratch, 'read-only', 'size=64m,ro')

function testIn(place: Mounted, title: string, body: (t: ExecutionContext, folder: string) => Promise<void>): void {
  if ('refusal' in place) test.skip(`${title} (${place.refusal})`, () => {})
  else test.serial(title, (t) => body(t, place.folder))
}

// Words.

test('without a verb, the command prints its help on standard error, and exits with 2', async (t) => {
  const { status, stdout, stderr } = await deepring()
  t.deepEqual([status, stdout], [2, ''])
  t.regex(stderr, /Usage: deepring VERB/)
})

test('every verb is in the help, and every verb has its own with all options and examples that parse', async (t) => {
  const { status, stdout } = await deepring('--help')
  t.is(status, 0)
  for (const verb of VERBS) {
    t.true(stdout.includes(`  ${verb.name} ${verb.usage}`.trimEnd()), verb.name)
    const help = await deepring(...verb.name.split(' '), '--help')
    t.is(help.status, 0)
    for (const name of Object.keys(optionsOf(verb))) t.true(help.stdout.includes(`--${name}`), `${verb.name} --${name}`)
    t.true(verb.examples.length > 0, verb.name)
    for (const [command] of verb.examples) {
      t.true(help.stdout.includes(command), command)
      const [, words = ''] = /deepring ([^|)]*)/.exec(command) ?? []
      t.is(parse(words.trim().split(' ')).verb, verb, command)
    }
  }
})

test('the help of a group has its verbs', async (t) => {
  const { status, stdout } = await deepring('checkpoint', '--help')
  t.is(status, 0)
  for (const name of ['list', 'verify', 'pin', 'unpin', 'remove', 'collect'])
    t.true(stdout.includes(`checkpoint ${name}`))
})

test('--version prints the version of the package', async (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
  t.deepEqual(await deepring('--version'), { status: 0, stdout: `${version}\n`, stderr: '' })
})

for (const [words, sentence] of [
  [['verfy', 'x'], /there is no verb 'verfy'; did you mean 'verify'\?/],
  [['checkpoint', 'lst', 'x'], /there is no verb 'checkpoint lst'; did you mean 'checkpoint list'\?/],
  [['checkpoint'], /'checkpoint' needs one of list, verify, pin/],
  [['frobnicate'], /there is no verb 'frobnicate' \(/],
  [['cp', '--no-clnoe', 'a', 'b'], /there is no option '--no-clnoe'; did you mean '--no-clone'\?/],
  [['cp', '-x', 'a', 'b'], /there is no option '-x'/],
  [['cp', '--jobs', '--verify', 'a', 'b'], /--jobs needs a value: N/],
  [['info', '--html='], /--html needs a value: FILE/],
  [['cp', '--jobs=many', 'a', 'b'], /--jobs 'many' is not a whole number/],
  [['cp', '--verify=yes', 'a', 'b'], /--verify takes no value/],
  [['cp', 'a'], /an argument is missing: deepring cp SOURCE... TARGET/],
  [['ls', 'a', 'b'], /'b' is one argument too many/],
  [['convert', 'a', 'b', '--dtype', 'F9'], /--dtype must be one of F32, F16, BF16, not 'F9'/],
  [['convert', 'a', 'b', '--shards', 'big'], /--shards 'big' is not a size/],
  [['verify', 'a', '--sha256', 'abc'], /--sha256 'abc' is not 64 hexadecimal digits/],
  [['verify', 'a', '--list', 'b', '--sha256', 'c'], /--sha256 and --list exclude each other/],
  [['completion', 'bsh'], /did you mean 'bash'\?/],
] as const) {
  test(`wrong words are named, and exit with 2: ${words.join(' ')}`, async (t) => {
    refused(t, await deepring(...words), 2, sentence)
  })
}

test('the nearest word is the one that was meant, and of far ones there is none', (t) => {
  const names = ['verify', 'cp', 'convert', 'checkpoint']
  t.deepEqual(
    ['vreify', 'covnert', 'check', 'pc', 'xyzzy'].map((word) => nearest(word, names)),
    ['verify', 'convert', 'checkpoint', 'cp', undefined],
  )
})

// Info and doctor.

test('info says what moves the bytes and why, of a place, as text without escapes and as JSON', async (t) => {
  const { status, stdout, stderr } = await deepring('info', scratch.folder)
  t.deepEqual([status, stderr], [0, ''])
  t.false(stdout.includes('\u001B'))
  for (const row of [
    'backend',
    'kernel',
    'seccomp',
    'locked memory',
    'file system',
    'device',
    'direct I/O',
    'alignment',
    'read window',
    'profile',
  ])
    t.regex(stdout, new RegExp(`^${row}  `, 'm'))
  const found = await documentOf<{ backend: string; path: { path: string; fileSystem: string }; container: object }>(
    'info',
    scratch.folder,
  )
  t.is(found.path.path, scratch.folder)
  t.true(stdout.includes(found.path.fileSystem))
  t.true('container' in found)
})

test('info of a path that is missing is one sentence, and with --json an object, too', async (t) => {
  const path = scratch.path('missing')
  refused(t, await deepring('info', path), 1, /^deepring info: there is no '.*missing-\d+'\n$/)
  const { status, stdout } = await deepring('info', path, '--json')
  t.is(status, 1)
  const { error } = JSON.parse(stdout) as { error: { code: string; path: string } }
  t.deepEqual([error.code, error.path], ['ENOENT', path])
})

test('doctor prints advice, and with --check exits with 1 if there is some', async (t) => {
  // The proc file system has no direct I/O.
  const advised = await deepring('doctor', '/proc/self', '--check')
  t.is(advised.status, 1)
  t.regex(advised.stdout, /Direct I\/O does not work/)
  const { advice } = await documentOf<{ advice: string[] }>('doctor', scratch.folder)
  t.is((await deepring('doctor', scratch.folder, '--check')).status, advice.length === 0 ? 0 : 1)
  t.is((await deepring('doctor', '/proc/self')).status, 0)
})

// Tensors.

test('ls lists the tensors of a file with totals, as the library sees them', async (t) => {
  const path = await model()
  const { status, stdout } = await deepring('ls', path)
  t.is(status, 0)
  t.regex(stdout, /^layer\.0\.weight {2}F32 +\[64, 64\] +16384 +\d+$/m)
  t.regex(stdout, /^F32 +2 tensors +16\.6 kB$/m)
  t.regex(stdout, /^all +4 tensors .* in 1 file$/m)
  const found = await documentOf<{ tensors: object[]; bytes: number; metadata: object }>('ls', path)
  const file = await openSafetensors(path)
  t.deepEqual(
    found.tensors,
    Array.from(file.names(), (name) => ({ ...file.info(name) })),
  )
  t.is(found.bytes, file.bytes)
  t.like(found.metadata, { from: 'a test' })
  await file.close()
})

test('ls --tree sums up by the parts of the names', async (t) => {
  const { stdout } = await deepring('ls', await model(), '--tree')
  t.regex(stdout, /─ layer +16\.7 kB +3 tensors/)
  t.regex(stdout, /─ 1\.weight +16 B +BF16 \[8\]/)
})

test('ls shows control characters of names as escapes', async (t) => {
  const path = scratch.path('hostile')
  await saveSafetensors(path, { 'a\u001B[2Jb': { dtype: 'U8', shape: [1], data: new Uint8Array(1) } })
  const { stdout } = await deepring('ls', path)
  t.true(stdout.includes('a\\u001b[2Jb'))
  t.false(stdout.includes('\u001B'))
})

test('ls of a model that is none names what is wrong, and exits with 1', async (t) => {
  refused(t, await deepring('ls', scratch.file('not a header at all')), 1, /header/)
  const empty = scratch.directory('empty')
  refused(
    t,
    await deepring('ls', empty),
    1,
    /^deepring ls: '.*' has neither a model nor a generation of checkpoints\n$/,
  )
})

test('output that nobody reads any more ends the command without a trace', async (t) => {
  const child = spawn(process.execPath, ['lib/command/main.ts', 'ls', await model()], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  child.stdout.destroy()
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [status] = (await once(child, 'close')) as [number]
  t.deepEqual([status, stderr], [141, ''])
})

test('verify compares a model with its own checksums, and names the tensor that is damaged', async (t) => {
  const path = await model()
  t.regex((await deepring('verify', path)).stdout, /4 tensors as expected/)
  const file = await openSafetensors(path)
  const { position } = file.info('layer.0.bias')
  await file.close()
  damage(path, position + 10)
  const { status, stdout } = await deepring('verify', path)
  t.is(status, 1)
  t.regex(stdout, /damaged tensor 'layer\.0\.bias' of '.*', 256 bytes from position \d+: its CRC-32C is/)
  t.like(await documentOf('verify', path), { ok: false, verified: 3, damaged: [{ tensor: 'layer.0.bias' }] })
})

test('verify of a model without checksums has not passed', async (t) => {
  const { status, stdout } = await deepring('verify', await model({}))
  t.is(status, 1)
  t.regex(stdout, /4 tensors without a checksum/)
})

test('verify compares any file with a SHA-256 or a CRC-32C', async (t) => {
  const bytes = randomBytes(3 * MIB + 5)
  const path = scratch.file(bytes)
  const sha = createHash('sha256').update(bytes).digest('hex')
  const crc = crc32c(bytes).toString(16).padStart(8, '0')
  t.is((await deepring('verify', path, '--sha256', sha.toUpperCase())).status, 0)
  t.is((await deepring('verify', path, '--crc32c', crc)).status, 0)
  damage(path, 2 * MIB)
  const { status, stdout } = await deepring('verify', path, '--sha256', sha)
  t.is(status, 1)
  t.regex(stdout, new RegExp(`damaged '.*': its sha256 is [0-9a-f]{64}, and not ${sha}`))
})

test('verify takes the SHA-256 of a blob of Hugging Face from its name, also behind a link', async (t) => {
  const folder = scratch.directory('hub')
  const bytes = randomBytes(100_000)
  const blob = join(folder, createHash('sha256').update(bytes).digest('hex'))
  writeFileSync(blob, bytes)
  const link = join(folder, 'model.safetensors')
  symlinkSync(basename(blob), link)
  t.is((await deepring('verify', link)).status, 0)
  damage(blob, 5)
  t.is((await deepring('verify', link)).status, 1)
})

test('verify writes a list and compares with it, and finds what is damaged, cut or missing', async (t) => {
  const folder = scratch.directory('listed')
  for (const name of ['a', 'b', 'c', 'd e']) writeFileSync(join(folder, name), pattern(1000, name.length))
  const list = join(folder, 'SUMS')
  const files = ['a', 'b', 'c', 'd e'].map((name) => join(folder, name))
  t.is((await deepring('verify', '--write', list, ...files)).status, 0)
  t.regex(readFileSync(list, 'utf8'), /^[0-9a-f]{8} {2}a$/m)
  t.regex((await deepring('verify', '--list', list)).stdout, /4 files as expected/)
  damage(join(folder, 'a'), 9)
  truncateSync(join(folder, 'b'), 5)
  renameSync(join(folder, 'c'), join(folder, 'gone'))
  const found = await documentOf<{ ok: boolean; files: { ok: boolean }[] }>('verify', '--list', list)
  t.deepEqual([found.ok, found.files.map(({ ok }) => ok)], [false, [false, false, false, true]])
  t.regex((await deepring('verify', '--list', list)).stdout, /^not read '.*c': there is no '.*c'$/m)
})

test('a list as sha256sum makes it is taken, and a line of another kind is named', async (t) => {
  const folder = scratch.directory('sha256sum')
  writeFileSync(join(folder, 'x'), 'abc')
  writeFileSync(join(folder, 'SUMS'), execFileSync('sha256sum', ['x'], { cwd: folder }))
  t.is((await deepring('verify', '--list', join(folder, 'SUMS'))).status, 0)
  writeFileSync(join(folder, 'SUMS'), 'abc\n')
  refused(t, await deepring('verify', '--list', join(folder, 'SUMS')), 1, /line 1 of '.*' is not a CRC-32C or SHA-256/)
})

test('an output that cannot be written is one sentence, and exits with 1', async (t) => {
  const full = openSync('/dev/full', 'w')
  const child = spawn(process.execPath, ['lib/command/main.ts', '--help'], { stdio: ['ignore', full, 'pipe'] })
  closeSync(full)
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [status] = (await once(child, 'close')) as [number]
  refused(t, { status, stdout: '', stderr }, 1, /^deepring: the output could not be written: ENOSPC/)
})

// Checkpoints.

async function store(generations: number): Promise<string> {
  const path = scratch.path('run')
  await using opened = await openCheckpoints(path, { create: true, keep: 'all' })
  for (let nth = 1; nth <= generations; nth += 1) await opened.save(TENSORS, { step: nth * 10 })
  return path
}

test('checkpoint list, pin, unpin, remove and collect', async (t) => {
  const path = await store(4)
  interface Listed {
    readonly generations: readonly { readonly number: number; readonly step: number; readonly pinned: boolean }[]
  }
  const numbers = async (): Promise<number[]> =>
    (await documentOf<Listed>('checkpoint', 'list', path)).generations.map(({ number }) => number)
  t.regex((await deepring('checkpoint', 'list', path)).stdout, /^ +4 +40 +\d{4}-\d\d-.* 4 +16\.7 kB$/m)
  t.is((await deepring('checkpoint', 'pin', path, '1')).status, 0)
  t.true((await documentOf<Listed>('checkpoint', 'list', path)).generations[0]?.pinned)
  refused(t, await deepring('checkpoint', 'remove', path, '1'), 1, /pinned/)
  t.is((await deepring('checkpoint', 'remove', path, '2')).status, 0)
  t.is((await deepring('checkpoint', 'collect', path)).status, 0)
  t.deepEqual(await numbers(), [1, 3, 4], 'without --last nothing is removed')
  t.deepEqual(
    (await documentOf<{ generations: number[] }>('checkpoint', 'collect', path, '--last', '1')).generations,
    [3],
  )
  t.is((await deepring('checkpoint', 'unpin', path, '1')).status, 0)
  t.is((await deepring('checkpoint', 'collect', path, '--last', '1')).status, 0)
  t.deepEqual(await numbers(), [4])
  for (const verb of ['pin', 'unpin', 'remove'])
    refused(t, await deepring('checkpoint', verb, path, '9'), 1, /there is no such generation, generation 9/)
  t.is((await deepring('checkpoint', 'unpin', path, '4')).status, 0, 'that there was no pin is no error')
})

test('ls and verify find a store of checkpoints, its newest generation, and the tensor that is damaged', async (t) => {
  const path = await store(2)
  t.regex((await deepring('ls', path)).stdout, /^generation 2, step 20$/m)
  t.like(await documentOf('ls', path, '--generation', '1'), { generation: 1, step: 10 })
  t.is((await deepring('verify', path)).status, 0)
  t.is((await deepring('checkpoint', 'verify', path, '2')).status, 0)
  const { tensors } = await documentOf<{ tensors: { name: string; path: string; position: number }[] }>('ls', path)
  const weight = tensors.find(({ name }) => name === 'layer.0.weight') as (typeof tensors)[number]
  damage(weight.path, weight.position + 100)
  for (const words of [
    ['verify', path],
    ['checkpoint', 'verify', path],
    ['verify', path, '--generation', '2'],
  ]) {
    const { status, stdout } = await deepring(...words)
    t.is(status, 1)
    t.regex(stdout, /generation 2: damaged tensor 'layer\.0\.weight'/)
  }
  t.is((await deepring('checkpoint', 'verify', path, '1')).status, 0)
})

// Swap stores.

test('swap stats reads the last index, without the lock, and names the process that has the store open', async (t) => {
  const path = scratch.path('swap')
  const swap = await openSwap(path, { memory: MIB, create: true, checksum: 'crc32c' })
  await swap.put('a', TENSORS['layer.0.weight'])
  await swap.flush()
  interface Found {
    readonly open: boolean
    readonly process: number | null
    readonly index: { readonly tensors: number; readonly dtypes: object; readonly summed: number } | null
  }
  const held = await documentOf<Found>('swap', 'stats', path)
  t.deepEqual([held.open, held.process], [true, process.pid])
  t.like(held.index, { tensors: 1, summed: 1, dtypes: { F32: 1 } })
  await swap.put('b', TENSORS['layer.0.bias'])
  await swap.close()
  const after = await documentOf<Found>('swap', 'stats', path)
  t.deepEqual([after.open, after.process, after.index?.tensors], [false, null, 2])
  damage(join(path, 'index'), 60)
  refused(t, await deepring('swap', 'stats', path), 1, /does not end in the checksum of its bytes/)
  refused(t, await deepring('swap', 'stats', scratch.directory('none')), 1, /has no swap store/)
})

test('swap stats says of a store without an index that it is torn, or that it is being written to', async (t) => {
  const path = scratch.path('torn')
  const swap = await openSwap(path, { memory: 8192, create: true })
  await swap.put('a', { dtype: 'U8', shape: [4096], data: new Uint8Array(4096) })
  await swap.flush()
  // More than the budget, so that something is written in place.
  for (let nth = 0; nth < 8; nth += 1)
    await swap.put(`${nth}`, { dtype: 'U8', shape: [4096], data: new Uint8Array(4096).fill(nth) })
  t.regex((await deepring('swap', 'stats', path)).stdout, /^open +by process \d+\nlast flush +written to since$/m)
  await swap.close()
  unlinkSync(join(path, 'index'))
  t.regex(
    (await deepring('swap', 'stats', path)).stdout,
    /^open +no\nlast flush +none: torn, it was written to and not flushed$/m,
  )
})

// Conversion.

test('convert changes the element type of what is floating-point, keeps the rest, and can be verified', async (t) => {
  const [from, to] = [await model(), `${scratch.path('half')}.safetensors`]
  t.like(await documentOf('convert', from, to, '--dtype', 'BF16', '--checksum'), { tensors: 4, converted: 2 })
  t.is((await deepring('verify', to)).status, 0)
  await using half = await openSafetensors(to)
  t.deepEqual(Array.from(half.names(), (name) => [name, half.info(name).dtype]).toSorted(), [
    ['layer.0.bias', 'BF16'],
    ['layer.0.weight', 'BF16'],
    ['layer.1.weight', 'BF16'],
    ['steps', 'I64'],
  ])
  t.is(half.metadata.get('from'), 'a test')
  const bias = await half.tensor('layer.0.bias')
  t.true((bias.data as Uint16Array).every((bits) => bits === 0x3f00))
})

test('convert writes several files with an index, and one file of them again', async (t) => {
  const [from, shards, back] = [await model(), scratch.path('shards'), `${scratch.path('back')}.safetensors`]
  const { files } = await documentOf<{ files: string[] }>('convert', from, shards, '--shards', '1K')
  t.true(files.length > 1)
  t.regex(basename(files[0] as string), /^model-00001-of-0000\d\.safetensors$/)
  t.is((await deepring('convert', shards, back, '--order', 'reference', '--memory', '8K')).status, 0)
  await using one = await openSafetensors(back)
  const weight = await one.tensor('layer.0.weight')
  t.deepEqual(weight.data, weights)
  refused(t, await deepring('convert', from, shards, '--shards', '1K'), 1, /has a model already/)
})

testIn(small, 'convert onto a full disk leaves nothing', async (t, folder) => {
  const path = `${scratch.path('large')}.safetensors`
  await saveSafetensors(path, { x: { dtype: 'U8', shape: [32 * MIB], data: pattern(32 * MIB) } })
  refused(t, await deepring('convert', path, join(folder, 'x.safetensors')), 1, /no space is left/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

test.serial('convert that is interrupted leaves nothing, and exits with 130', async (t) => {
  const path = `${scratch.path('wide')}.safetensors`
  const data = new Float32Array(32 * MIB).fill(1.5)
  await saveSafetensors(
    path,
    Object.fromEntries(['a', 'b', 'c'].map((name) => [name, { dtype: 'F32', shape: [32 * MIB], data }])),
  )
  const target = scratch.path('interrupted-shards')
  const words = ['convert', path, target, '--dtype', 'BF16', '--shards', '100M']
  refused(t, await interrupted(words, () => existsSync(target)), 130, /^deepring convert: interrupted\n$/)
  t.false(existsSync(target))
})

// Copies.

/** A tree with what a copy must keep. */
function tree(): string {
  const path = scratch.directory('tree')
  mkdirSync(join(path, 'sub'))
  writeFileSync(join(path, 'a'), pattern(100_000))
  chmodSync(join(path, 'a'), 0o640)
  utimesSync(join(path, 'a'), 1_600_000_000, 1_500_000_000)
  linkSync(join(path, 'a'), join(path, 'b'))
  symlinkSync('a', join(path, 'link'))
  symlinkSync('nowhere', join(path, 'sub', 'dangling'))
  writeFileSync(join(path, 'sub', 'empty'), '')
  const sparse = openSync(join(path, 'sub', 'sparse'), 'w')
  writeSync(sparse, Buffer.from(pattern(5000)), 0, 5000, 70 * MIB)
  ftruncateSync(sparse, 200 * MIB)
  closeSync(sparse)
  utimesSync(join(path, 'sub'), 1_600_000_000, 1_400_000_000)
  return path
}

function checkTree(t: ExecutionContext, from: string, to: string): void {
  for (const name of ['a', 'sub/empty', 'sub/sparse']) {
    t.true(same(contents(join(from, name)), contents(join(to, name))), name)
    const [one, other] = [statSync(join(from, name)), statSync(join(to, name))]
    t.deepEqual([other.mode, other.mtimeMs], [one.mode, one.mtimeMs], name)
  }
  t.is(statSync(join(to, 'b')).ino, statSync(join(to, 'a')).ino, 'a hard link is one')
  t.is(readlinkSync(join(to, 'link')), 'a')
  t.is(readlinkSync(join(to, 'sub/dangling')), 'nowhere')
  t.true(statSync(join(to, 'sub/sparse')).blocks * 512 < MIB, 'holes are kept')
  t.is(statSync(join(to, 'sub')).mtimeMs, statSync(join(from, 'sub')).mtimeMs)
}

for (const options of [[], ['--no-clone'], ['--verify'], ['--resume'], ['--resume', '--verify', '--durable']]) {
  test(`cp -r keeps bytes, holes, links, permissions and times: ${options.join(' ')}`, async (t) => {
    const [from, to] = [tree(), scratch.path('copy')]
    const { status, stderr } = await deepring('cp', '-r', ...options, from, to)
    t.deepEqual([status, stderr], [0, ''])
    checkTree(t, from, to)
    t.false(existsSync(`${to}.deepring-journal`))
    // Into a directory that is there.
    const into = scratch.directory('into')
    t.is((await deepring('cp', '-r', ...options, `${from}/`, into)).status, 0)
    checkTree(t, from, join(into, basename(from)))
  })
}

test('cp copies many files, and its checksums are those of the bytes, with zeros in holes', async (t) => {
  const [from, to] = [tree(), scratch.path('summed')]
  interface Found {
    readonly files: readonly { readonly to: string; readonly cloned: boolean; readonly crc32c: string | null }[]
  }
  const { files } = await documentOf<Found>('cp', '-r', '--no-clone', from, to)
  t.is(files.length, 3)
  for (const { to: path, crc32c: crc } of files) t.is(crc, crc32c(contents(path)).toString(16).padStart(8, '0'), path)
})

test('cp replaces a file as a whole, and refuses what makes no sense', async (t) => {
  const [from, to] = [scratch.file(pattern(5000)), scratch.file(pattern(100, 2))]
  t.is((await deepring('cp', from, to)).status, 0)
  t.true(same(contents(from), contents(to)))
  refused(t, await deepring('cp', from, from), 1, /are the same/)
  const folder = scratch.directory('folder')
  refused(t, await deepring('cp', folder, scratch.path()), 2, /is a directory: use --recursive/)
  refused(t, await deepring('cp', '-r', folder, join(folder, 'inside')), 1, /is inside of/)
  refused(t, await deepring('cp', from, to, scratch.path()), 2, /is not a directory/)
  refused(t, await deepring('cp', scratch.path('none'), folder), 1, /there is no '/)
  refused(t, await deepring('cp', from, join(scratch.path('none'), 'x')), 1, /there is no directory '/)
  refused(t, await deepring('cp', '/dev/null', folder), 1, /is neither a file nor a directory nor a link/)
  const namesake = join(scratch.directory('other'), basename(from))
  writeFileSync(namesake, 'x')
  refused(t, await deepring('cp', from, namesake, folder), 1, /^deepring cp: '.*' and '.*' would both become '.*'\n$/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

testIn(small, 'cp onto a full disk says so, and leaves nothing', async (t, folder) => {
  const from = scratch.directory('too-much')
  writeFileSync(join(from, 'small'), pattern(1000))
  writeFileSync(join(from, 'large'), pattern(20 * MIB))
  refused(t, await deepring('cp', '-r', from, join(folder, 'x')), 1, /no space is left/)
  refused(
    t,
    await deepring('cp', '-r', '--no-clone', from, join(folder, 'x')),
    1,
    /the copy needs 21\.0 MB in '.*', where/,
  )
  t.deepEqual(readdirSync(folder), NOTHING)
})

testIn(readOnly, 'cp onto a read-only file system says so', async (t, folder) => {
  refused(t, await deepring('cp', scratch.file('x'), folder), 1, /is on a read-only file system/)
})

const LARGE_BYTES = 600 * MIB

/** A file that takes a while. */
function large(): string {
  const path = scratch.path('large')
  const block = randomBytes(20 * MIB)
  const file = openSync(path, 'w')
  for (let at = 0; at < LARGE_BYTES; at += block.length) {
    block.writeUInt32LE(at, 0)
    writeSync(file, block)
  }
  closeSync(file)
  return path
}

test.serial('cp that is interrupted leaves nothing, and exits with 130', async (t) => {
  const [from, folder] = [large(), scratch.directory('interrupted')]
  const to = join(folder, 'x')
  const words = ['cp', '--no-clone', '--verify', '-r', directoryWith(from), to]
  refused(t, await interrupted(words, () => existsSync(to)), 130, /^deepring cp: interrupted\n$/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

/** A directory with another name of a file. */
function directoryWith(file: string): string {
  const path = scratch.directory('with')
  linkSync(file, join(path, 'large'))
  return path
}

test.serial('cp --resume goes on from what is there, and never believes it', async (t) => {
  const [from, to] = [large(), scratch.path('resumed')]
  const journal = `${to}.deepring-journal`
  const lines = (): number => (existsSync(journal) ? readFileSync(journal, 'utf8').split('\n').length : 0)
  const ended = await interrupted(['cp', '--resume', from, to], () => lines() > 4)
  refused(t, ended, 130, /interrupted; the same command goes on from what is there/)
  t.true(lines() > 4)
  // The first chunk is damaged, while size and journal are as they were.
  const fd = openSync(to, 'r+')
  writeSync(fd, Buffer.from([1, 2, 3]), 0, 3, 1000)
  closeSync(fd)
  const found = await documentOf<{ kept: number; copied: number }>('cp', '--resume', from, to)
  t.true(found.kept >= 64 * MIB && found.kept < LARGE_BYTES, `${found.kept} kept`)
  t.is(found.kept + found.copied, LARGE_BYTES)
  t.true(same(contents(from), contents(to)))
  t.false(existsSync(journal))
})

test('cp --resume passes over what is no line of a journal, and says what is no journal', async (t) => {
  const [from, to] = [scratch.file(pattern(5000)), scratch.path('odd-journal')]
  const head = '{"format":"deepring-copy","version":1,"chunk":67108864}'
  writeFileSync(`${to}.deepring-journal`, `${head}\nnull\n7\n"x"\n{"file":5}\n[9,9]\n[null]\n{`)
  t.is((await deepring('cp', '--resume', from, to)).status, 0)
  t.true(same(contents(from), contents(to)))
  mkdirSync(`${to}.deepring-journal`)
  refused(t, await deepring('cp', '--resume', from, to), 1, /\.deepring-journal' is a directory, and not a journal\n$/)
})

test.serial('cp --resume of a file that has changed begins anew', async (t) => {
  const [from, to] = [large(), scratch.path('changed')]
  const journal = `${to}.deepring-journal`
  const lines = (): number => (existsSync(journal) ? readFileSync(journal, 'utf8').split('\n').length : 0)
  t.is((await interrupted(['cp', '--resume', from, to], () => lines() > 4)).status, 130)
  damage(from, 5)
  t.like(await documentOf('cp', '--resume', from, to), { kept: 0, copied: LARGE_BYTES })
  t.true(same(contents(from), contents(to)))
})

// Benches.

interface Figures {
  readonly name: string
  readonly depth?: number
  readonly rate: { readonly median: number; readonly warmUp: number; readonly rounds: readonly number[] }
  readonly p99Us?: number
  readonly percentiles?: readonly { readonly percent: number; readonly us: number }[]
  readonly rivals: readonly {
    readonly name: string
    readonly rate: { readonly median: number }
    readonly cpuSecondsPerGB: number
    readonly share: number
  }[]
  readonly shareOfFio?: number
}

interface Bench {
  readonly ok: boolean
  readonly inMemory: boolean
  readonly ioBytes: number
  readonly fio: string | null
  readonly notes: readonly string[]
  readonly tasks: readonly Figures[]
  readonly window: readonly { readonly seconds: number; readonly readBytes: number; readonly writeBytes: number }[]
}

const SHORT = ['--io-size', '16M', '--loops', '2', '--validate']

test.serial('bench measures every task, tells the warm-up apart, and leaves nothing', async (t) => {
  const folder = scratch.directory('bench')
  const { status, stdout, stderr } = await deepring('bench', folder, ...SHORT, '--no-fio', '--json')
  t.deepEqual([status, stderr], [0, ''])
  const { tasks, ioBytes, window } = JSON.parse(stdout) as Bench
  t.is(ioBytes, 16 * MIB)
  t.deepEqual(
    tasks.map(({ name }) => name),
    'read overwrite new sync random-1 random-2 random-4 random-8 random-16 random-32 random-64 random-128 many mixed latency'.split(
      ' ',
    ),
  )
  for (const { name, depth, rate, p99Us, percentiles = [], rivals } of tasks) {
    t.true(rate.median > 0 && rate.warmUp > 0, name)
    t.is(rate.rounds.length, 2, name)
    t.is(p99Us !== undefined && p99Us > 0, /random|many|latency/.test(name), name)
    t.is(depth, name.startsWith('random-') ? Number(name.slice('random-'.length)) : undefined)
    t.is(percentiles.length > 1, /random|many|latency/.test(name), name)
    for (const [nth, { percent, us }] of percentiles.entries())
      if (nth > 0)
        t.true(percent > (percentiles[nth - 1]?.percent ?? 100) && us >= (percentiles[nth - 1]?.us ?? 0), name)
    t.deepEqual(
      rivals.map((rival) => rival.name),
      ['read', 'sync', 'random-32'].includes(name) ? ['node:fs'] : [],
    )
    for (const rival of rivals) t.true(rival.rate.median > 0 && rival.cpuSecondsPerGB > 0 && rival.share > 0, name)
  }
  // Over node:fs, there is no search.
  const { backend } = await documentOf<{ backend: string }>('info', folder)
  t.is(window.length > 1, backend !== 'node')
  for (const [nth, { seconds, readBytes, writeBytes }] of window.entries())
    t.true(seconds > (window[nth - 1]?.seconds ?? 0) && readBytes > 0 && writeBytes > 0)
  t.deepEqual(readdirSync(folder), NOTHING)
})

test.serial('bench takes the words of ds_io, and fails below a minimum', async (t) => {
  const folder = scratch.directory('bench-minimum')
  const words = ['--block-size', '1M', '--depth', '8', '--sequential', '--single-submit', '--parallel', '2']
  const only = ['--only', 'read,overwrite', '--no-fio']
  const good = await deepring('bench', folder, ...SHORT, ...words, ...only, '--min', 'read=0.0001')
  t.deepEqual([good.status, good.stderr], [0, ''])
  t.regex(good.stdout, /^read +[\d.]+ +GB\/s +[\d.]+ to [\d.]+/m)
  const bad = await deepring('bench', folder, ...SHORT, ...only, '--min', 'read=0.0001,overwrite=9999')
  t.is(bad.status, 1)
  t.regex(bad.stdout, /^overwrite: [\d.]+ GB\/s is less than 9999$/m)
  t.notRegex(bad.stdout, /^read: /m)
})

test.serial('bench compares with fio where that is installed, and says so where it is not', async (t) => {
  const folder = scratch.directory('bench-fio')
  const { fio, tasks, notes } = await documentOf<Bench>('bench', folder, ...SHORT, '--only', 'read,random-8')
  for (const { name, shareOfFio } of tasks) t.is(shareOfFio !== undefined, fio !== null, name)
  t.is(
    notes.some((note) => note.startsWith('fio is not installed')),
    fio === null,
  )
  const { status, stdout } = await deepringIn(
    process.cwd(),
    { PATH: '/nowhere' },
    'bench',
    folder,
    ...SHORT,
    '--only',
    'read',
  )
  t.is(status, 0)
  t.regex(stdout, /^fio is not installed/m)
})

/** Pages of a file that are in the page cache. */
function cachedPages(path: string): number {
  return Number(execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'PAGES', path], { encoding: 'utf8' }))
}

test.serial(
  'node:fs in a bench reads a file that is not in the page cache, and leaves nothing of it there',
  async (t) => {
    const { signal } = new AbortController()
    await using place = await openPlace(scratch.directory('bench-cached'), 16 * MIB, signal, () => {})
    const setup = { place, engine: Engine.default, handle: undefined, signal, validates: false }
    for (const name of ['read', 'random-32']) {
      const task = TASKS.find((row) => row.name === name) as Task
      const expected = contents(place.read)
      t.is(cachedPages(place.read), 4096)
      const { bytes, wallSeconds } = await (nodeContender(task, setup) as Contender).run()
      t.is(cachedPages(place.read), 0)
      t.true(bytes > 0 && wallSeconds > 0)
      if (name === 'read') t.true(same(place.into[0].subarray(0, bytes), expected))
    }
  },
)

test.serial('a bench goes without node:fs if that is said, or where dd is missing, which it says', async (t) => {
  const words = ['bench', scratch.directory('bench-rivals'), ...SHORT, '--only', 'read', '--no-fio']
  t.deepEqual((await documentOf<Bench>(...words, '--no-node-fs')).tasks[0]?.rivals, [])
  const { status, stdout } = await deepringIn(process.cwd(), { PATH: '/nowhere' }, ...words)
  t.is(status, 0)
  t.regex(stdout, /^node:fs failed: .*dd/m)
})

test.serial('bench --validate finds bytes that are not those that were written', async (t) => {
  const { signal } = new AbortController()
  await using place = await openPlace(scratch.directory('bench-damaged'), 16 * MIB, signal, () => {})
  const read = TASKS.find(({ name }) => name === 'read') as Task
  const setup = { place, engine: Engine.default, handle: undefined, signal, validates: true }
  await t.notThrowsAsync(read.run(setup))
  damage(place.read, 16 * MIB - 5)
  await t.throwsAsync(read.run(setup), { message: /are not those that were written/ })
  await t.notThrowsAsync(read.run({ ...setup, validates: false }))
})

test('bench names words that are wrong, and places that are', async (t) => {
  const folder = scratch.directory('bench-wrong')
  refused(t, await deepring('bench', folder, '--only', 'raed'), 2, /there is no task 'raed'; did you mean 'read'\?/)
  refused(t, await deepring('bench', folder, '--min', 'read'), 2, /'read' is not NAME=NUMBER/)
  refused(t, await deepring('bench', folder, '--only', 'new', '--min', 'read=1'), 2, /--only leaves that out/)
  refused(t, await deepring('bench', folder, '--io-size', '4096'), 1, /at least 8\.39 MB/)
  refused(t, await deepring('bench', scratch.path('none')), 1, /there is no '/)
  refused(t, await deepring('bench', scratch.file('x')), 1, /is not a directory/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

testIn(readOnly, 'bench in a read-only directory says so', async (t, folder) => {
  refused(t, await deepring('bench', folder), 1, /is on a read-only file system|the bench needs/)
})

testIn(small, 'bench asks for as much room as it needs', async (t, folder) => {
  refused(t, await deepring('bench', folder), 1, /the bench needs 25\.2 MB in '.*', where 1\d\.\d MB are free/)
})

testIn(
  medium,
  'bench takes less where there is less room, and says so, and that it measures memory',
  async (t, folder) => {
    const words = ['--loops', '1', '--only', 'read', '--no-fio']
    const { inMemory, ioBytes, notes } = await documentOf<Bench>('bench', folder, ...words)
    t.deepEqual([inMemory, ioBytes], [true, 16 * MIB])
    t.true(
      notes.some((note) => /there is room for files of 16\.8 MB, not of 1\.07 GB/.test(note)),
      notes.join('\n'),
    )
    t.true(notes.some((note) => /is in memory \(tmpfs\): this measures memory, not a drive/.test(note)))
    t.deepEqual(readdirSync(folder), NOTHING)
  },
)

/** Runs a bench, and sends it signals as soon as it has written a file. */
function interruptedBench(folder: string, ...signals: NodeJS.Signals[]): ReturnType<typeof interrupted> {
  const isBusy = (): boolean => readdirSync(folder).some((name) => existsSync(join(folder, name, 'overwritten')))
  return interrupted(['bench', folder, '--io-size', '64M'], isBusy, signals)
}

test.serial('bench that is interrupted leaves nothing, and exits with 130', async (t) => {
  const folder = scratch.directory('bench-interrupted')
  refused(t, await interruptedBench(folder, 'SIGINT'), 130, /^deepring bench: interrupted\n$/)
  t.deepEqual(readdirSync(folder), NOTHING)
})

test.serial('a second signal ends the command at once, as if it did not know it', async (t) => {
  const { status, stderr } = await interruptedBench(scratch.directory('bench-ended'), 'SIGINT', 'SIGTERM')
  t.true([130, 143].includes(status), 'by whichever came second')
  t.is(stderr, '')
})

// Completions.

/** What bash offers for these words. */
function offered(words: readonly string[]): string[] {
  const script = `source <("$0" lib/command/main.ts completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _deepring; printf '%s\\n' "\${COMPREPLY[@]}"`
  return execFileSync('bash', ['-c', script, process.execPath, ...words], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  })
    .split('\n')
    .filter((word) => word !== '')
}

test('bash completes verbs, options, their values, and files', (t) => {
  t.deepEqual(offered(['deepring', 'ch']), ['checkpoint'])
  t.deepEqual(offered(['deepring', 'checkpoint', 'un']), ['unpin'])
  t.deepEqual(offered(['deepring', 'cp', '--no']), ['--no-clone'])
  t.deepEqual(offered(['deepring', 'checkpoint', 'collect', '--e']), ['--every'])
  t.deepEqual(offered(['deepring', 'convert', '--dtype', 'B']), ['BF16'])
  t.deepEqual(offered(['deepring', 'ls', 'package-l']), ['package-lock.json'])
  t.deepEqual(offered(['deepring', 'completion', 'z']), ['zsh'])
})

for (const shell of ['zsh', 'fish']) {
  const isThere = (process.env['PATH'] ?? '').split(':').some((folder) => existsSync(join(folder, shell)))
  const check = isThere ? test : test.skip
  check(`the script for ${shell} is valid${isThere ? '' : ` (${shell} is not installed)`}`, async (t) => {
    const { stdout } = await deepring('completion', shell)
    t.notThrows(() => execFileSync(shell, ['-n', scratch.file(stdout)], { stdio: 'pipe' }))
  })
}

test('every verb and option is in the script of every shell', async (t) => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { stdout } = await deepring('completion', shell)
    for (const verb of VERBS) {
      for (const word of verb.name.split(' ')) t.true(stdout.includes(word), `${shell}: ${word}`)
      for (const name of Object.keys(optionsOf(verb))) t.true(stdout.includes(name), `${shell}: ${verb.name} --${name}`)
    }
  }
})

test('nothing is left in the directory that the command was started in', async (t) => {
  const folder = scratch.directory('started')
  t.is((await deepringIn(folder, {}, 'info')).status, 0)
  t.deepEqual(readdirSync(folder), NOTHING)
  t.true(lstatSync(folder).isDirectory())
})
