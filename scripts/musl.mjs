// Runs the suites on musl: the tests of Rust, linked with it, and a Node that runs on it, with the binary that would be published
// (scripts/binaries.mjs). All of it runs on the kernel of this machine, at full speed.
//
//   npm run musl                      the smoke of every public function on both backends, and both suites
//   npm run musl -- --only rust       one part: smoke, ava, or rust; can be repeated
//   npm run musl -- --built           with the binary that is in target/binaries
//   npm run musl -- --record          writes the result into docs/platforms.md
//   npm run musl -- --spec file       this file of the TypeScript suite only; can be repeated
//
// Needs Debian on x86_64, and Python 3; the tests of Rust any Linux with `rustup target add x86_64-unknown-linux-musl`. Ends with one line, `musl: N passed, N failed, N skipped, ...`.

import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { release } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { parseArgs, stripVTControlCharacters } from 'node:util'
import { CRATES, FEATURES } from './crates.mjs'
import { build, crossTests } from './cross.mjs'
import { cargoCounter, cargoReports, tapCounter, tapReports } from './count.ts'
import { muslNode } from './musl-node.mjs'
import { record } from './record.mjs'

const TRIPLE = 'linux-x64-musl'

/** Files of the TypeScript suite that do not look at the binary, or need other programs of npm that have none for musl here. */
const NOT_THERE =
  /^(bundlers|pack|docs|examples|recipes|types|load|electron|world|layers|count|site|workflow|node-backend|browser|page)$/

const options = {
  built: { type: 'boolean', default: false },
  record: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true },
  spec: { type: 'string', multiple: true },
}
const { values: chosen } = parseArgs({ options })
const root = join(import.meta.dirname, '..')
const started = performance.now()
const count = { passed: 0, failed: 0, skipped: 0 }
const reports = []
const parts = chosen.only ?? (chosen.spec === undefined ? ['smoke', 'ava', 'rust'] : ['ava'])

/** What runs the binary. The tests of Rust need neither. */
const node = parts.some((part) => part !== 'rust') ? muslNode() : undefined
if (node !== undefined && !chosen.built) build([TRIPLE])
mkdirSync(join(root, 'target'), { recursive: true })
const place = mkdtempSync(join(root, 'target', 'musl-'))
// Some tests continue as another user, who must be able to access their files.
chmodSync(place, 0o755)
process.on('exit', () => rmSync(place, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

// Before anything runs: what does not build ends all.
const rust = parts.includes('rust') ? rustTests() : []
if (parts.includes('smoke')) for (const backend of ['uring', 'threads']) await smoke(backend)
if (parts.includes('ava')) for (const spec of specs()) await suite(spec)
for (const { name, path, folder } of rust)
  await step(`rust ${name}`, path, [], {}, [cargoCounter(count), cargoReports(reports)], folder)
const seconds = Math.round((performance.now() - started) / 1000)
for (const report of reports) console.log(`\n${report}`)
const result = `musl: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped, ${seconds} s`
console.log(`\n${result}`)
if (chosen.record) record('musl', machine(), result)
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0

async function smoke(backend) {
  const folder = join(place, backend)
  mkdirSync(folder)
  const parameters = ['--expose-gc', join(root, '__test__/runtimes/smoke.mjs'), JSON.stringify({ folder })]
  const { isWell, last } = await step(`smoke over ${backend}`, node, parameters, { DEEPRING_BACKEND: backend })
  console.log(last)
  if (isWell) count.passed += 1
}

function machine() {
  const [kernel] = /^\d+\.\d+/.exec(release())
  const version = node === undefined ? [] : [`Node ${execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()}`]
  return [`Linux ${kernel}`, process.arch, 'musl', ...version].join(', ')
}

function specs() {
  const all = readdirSync(join(root, '__test__')).flatMap((name) => /^([\w-]+)\.spec\.ts$/.exec(name)?.[1] ?? [])
  return chosen.spec ?? all.filter((name) => !NOT_THERE.test(name))
}

async function suite(spec) {
  const parameters = [join(root, 'node_modules/ava/entrypoints/cli.js'), '--tap', `__test__/${spec}.spec.ts`]
  await step(`ava ${spec}`, node, parameters, {}, [tapCounter(count), tapReports(reports)])
}

function rustTests() {
  say('building the Rust tests')
  const parameters = [...[...CRATES, 'deepring-trials'].flatMap((name) => ['-p', name]), '--features', FEATURES.join()]
  return crossTests(TRIPLE, parameters)
}

/** Runs one program to its end, whose lines are counted by `readers`. One that fails without a failed test is one failure. */
async function step(name, command, parameters, variables, readers = [], folder = root) {
  const from = performance.now()
  const before = { ...count }
  const tail = []
  const child = spawn(command, parameters, {
    cwd: folder,
    env: {
      ...process.env,
      ...(node === undefined ? {} : { PATH: `${dirname(node)}${delimiter}${process.env.PATH}` }),
      DEEPRING_NATIVE_PATH: join(root, 'target', 'binaries', `deepring.${TRIPLE}.node`),
      DEEPRING_TEST_DIR: place,
      DEEPRING_PROFILE: 'off',
      ...variables,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()
      for (const line of lines.map(stripVTControlCharacters)) {
        tail.push(line)
        if (tail.length > 40) tail.shift()
        for (const read of readers) read(line)
      }
    })
  }
  const ended = await new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', (status, signal) => resolve(status === 0 ? '' : (signal ?? `status ${status}`)))
  })
  if (ended !== '') {
    if (count.failed === before.failed) count.failed += 1
    reports.push(`${name} ended with ${ended}:\n${tail.join('\n')}`)
  }
  const duration = Math.round((performance.now() - from) / 1000)
  say(`${name}: ${count.passed - before.passed} passed, ${count.failed - before.failed} failed, ${duration} s`)
  return { isWell: ended === '', last: tail.findLast((line) => line !== '') ?? '' }
}

function say(message) {
  process.stderr.write(`deepring: ${message}\n`)
}
