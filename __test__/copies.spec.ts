/**
 * Two copies of the package in one process, as npm installs them for dependents that ask for different versions: copies
 * of one build share one binary, others run beside it and the process warns once.
 */

import { appendFileSync, cpSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { binaryUnderTest, directDirectory, emptyDirectory, root, run } from './packed.ts'

const binary = binaryUnderTest() ?? ''

/** A folder with the copies `one` and `two` of the package; with `other`, the binary of `two` is another build. */
function twoCopies(t: ExecutionContext, other = false): string {
  const folder = realpathSync(emptyDirectory())
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const copy of ['one', 'two']) {
    const installed = join(folder, copy, 'node_modules', 'deepring')
    for (const path of [join(root, 'package.json'), join(root, 'dist'), binary])
      cpSync(path, join(installed, basename(path)), { recursive: true })
    // What follows the end of the file is not loaded.
    if (other && copy === 'two') appendFileSync(join(installed, basename(binary)), 'another build')
  }
  return folder
}

/** Runs a program with `copyOf(name)`, which imports a copy, and `warnings`, in a folder with copies. */
async function runIn(t: ExecutionContext, folder: string, program: string): Promise<unknown> {
  const file = join(folder, 'program.mjs')
  writeFileSync(
    file,
    `import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
const copyOf = (name, entry = 'index') => import(${JSON.stringify(folder)} + '/' + name + '/node_modules/deepring/dist/' + entry + '.js')
const warnings = []
process.on('warning', ({ code }) => warnings.push(code))
const path = ${JSON.stringify(directDirectory())} + '/copies-' + process.pid + '.bin'
const mapped = () => new Set(readFileSync('/proc/self/maps', 'utf8').match(/\\/\\S+deepring\\S*\\.node/g)).size
const settled = () => new Promise((resolve) => setTimeout(resolve, 50))
${program}
`,
  )
  const { status, stdout, stderr } = await run(process.execPath, [file], folder, { DEEPRING_NATIVE_PATH: undefined })
  t.is(status, 0, stderr)
  return JSON.parse(stdout)
}

test("copies of one build load one binary, and lose none of each other's records", async (t) => {
  const result = await runIn(
    t,
    twoCopies(t),
    `const copies = [await copyOf('one'), await copyOf('two')]
let lost = 0
for (let round = 1; round <= 50; round += 1) {
  writeFileSync(path, new Uint8Array(4096))
  const files = await Promise.all(copies.map((copy) => copy.open(path, 'r+')))
  const record = new Uint8Array(100).fill(round)
  await Promise.all(Array.from({ length: 40 }, (_, i) => files[i % 2].write(record, { position: i * 100 })))
  await Promise.all(files.map((file) => file.close()))
  const found = readFileSync(path)
  for (let i = 0; i < 40; i += 1) if (found[i * 100] !== round) lost += 1
}
rmSync(path)
await settled()
console.log(JSON.stringify({ lost, warnings, mapped: mapped() }))`,
  )
  t.deepEqual(result, { lost: 0, warnings: [], mapped: 1 })
})

test('workers that load different copies of one build at the same time share one set of statics', async (t) => {
  const result = await runIn(
    t,
    twoCopies(t),
    `if (isMainThread) {
  writeFileSync(path, new Uint8Array(400_000))
  const done = ['one', 'two', 'one', 'two'].map((name, own) => new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { name, own, path } })
    worker.on('exit', resolve).on('error', reject)
  }))
  await Promise.all(done)
  const found = readFileSync(path)
  let lost = 0
  for (let i = 0; i < 4000; i += 1) if (found[i * 100] !== 1 + (i % 250)) lost += 1
  rmSync(path)
  await settled()
  console.log(JSON.stringify({ lost, warnings }))
} else {
  const { name, own, path } = workerData
  const file = await (await copyOf(name)).open(path, 'r+')
  const jobs = []
  for (let i = own; i < 4000; i += 4) jobs.push(file.write(new Uint8Array(100).fill(1 + (i % 250)), { position: i * 100 }))
  await Promise.all(jobs)
  await file.close()
}`,
  )
  t.deepEqual(result, { lost: 0, warnings: [] })
})

test('copies of different builds run beside each other, and the process warns once, also for its workers', async (t) => {
  const result = await runIn(
    t,
    twoCopies(t, true),
    `const use = async () => {
  for (const name of ['one', 'two']) {
    const copy = await copyOf(name)
    const file = await copy.open(path, 'w')
    await file.close()
  }
  await settled()
}
if (isMainThread) {
  await use()
  const all = [...warnings]
  for (let i = 0; i < 2; i += 1) {
    const worker = new Worker(new URL(import.meta.url))
    worker.on('message', (more) => all.push(...more))
    await new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject))
  }
  rmSync(path)
  console.log(JSON.stringify({ all, mapped: mapped() }))
} else {
  await use()
  parentPort.postMessage(warnings)
}`,
  )
  t.deepEqual(result, { all: ['DEEPRING_TWO_COPIES'], mapped: 2 })
})

test('files, engines and errors of another copy are recognized by their marks', async (t) => {
  const result = await runIn(
    t,
    twoCopies(t, true),
    `const [one, two] = [await copyOf('one'), await copyOf('two')]
const { AioHandle } = await copyOf('one', 'lib/aio/index')
const caught = (call) => { try { call(); return 'taken' } catch (error) { return error.code + ' ' + /another copy of deepring: its (\\w+)/.exec(error.message)?.[1] } }
const file = await two.open(path, 'w+')
const engine = new two.Engine()
const handle = new AioHandle()
const error = await two.open('/nonexistent').catch((error) => error)
class Derived extends one.DeepringError {}
console.log(JSON.stringify([
  caught(() => handle.asyncPread(new Uint8Array(1), file)),
  caught(() => handle.getAlignment(file)),
  caught(() => new AioHandle({ engine })),
  error instanceof one.DeepringError,
  error instanceof Derived,
  new Error('x') instanceof one.DeepringError,
]))
await file.close()
await engine.close()
rmSync(path)`,
  )
  const refused = 'ERR_DEEPRING_TWO_COPIES'
  t.deepEqual(result, [`${refused} FileHandle`, `${refused} FileHandle`, `${refused} Engine`, true, false, false])
})

test('a copy behind a link is the same copy', async (t) => {
  const folder = twoCopies(t)
  rmSync(join(folder, 'two'), { recursive: true })
  symlinkSync(join(folder, 'one'), join(folder, 'two'))
  const result = await runIn(
    t,
    folder,
    `for (const name of ['one', 'two']) {
  const file = await (await copyOf(name)).open(path, 'w')
  await file.close()
}
rmSync(path)
console.log(JSON.stringify({ warnings, mapped: mapped() }))`,
  )
  t.deepEqual(result, { warnings: [], mapped: 1 })
})
