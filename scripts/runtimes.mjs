// Installs the packed package beside each JavaScript runtime it supports, and runs the scenarios of
// __test__/runtimes there: memory checked afterwards, processes and workers that end in the middle
// of requests, the promise of quiet, and a smoke test of every public function.
//
//   npm run runtimes                              all runtimes, 1000 worker terminations on each
//   npm run runtimes -- --only node22 --only bun  these
//   npm run runtimes -- --terminations 100        fewer
//   npm run runtimes -- --scenario terminate      only programs whose name begins with terminate
//   npm run runtimes -- --record                  writes the result into docs/platforms.md
//   npm run runtimes -- --suite                   then also the whole TypeScript suite, on Node 22, 24 and 26
//   npm run runtimes -- --seed 7                  another order of events; default: from the time
//
// Ends with one line,
// `runtimes: 6 runtimes, N scenarios, T terminations, 0 failures, ...`, and with status 1 if
// anything failed. What cannot run on a runtime is counted as skipped, with its reason.

import { spawn } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { directDirectory, install, pack, root } from '../__test__/packed.ts'
import { runScenario } from '../__test__/runtimes/runtime.ts'
import { scenarios } from '../__test__/runtimes/scenarios.ts'
import { record, thisMachine } from './record.mjs'
import { obtain, RUNTIMES } from './obtain.mjs'

/** The runtimes that the runner of the suite supports. */
const SUITE = new Set(['node22', 'node24', 'node26'])

const { values: chosen } = parseArgs({
  options: {
    only: { type: 'string', multiple: true },
    terminations: { type: 'string', default: '1000' },
    scenario: { type: 'string', default: '' },
    record: { type: 'boolean', default: false },
    suite: { type: 'boolean', default: false },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
  },
})
const runtimes = RUNTIMES.filter(({ name }) => chosen.only === undefined || chosen.only.includes(name))
const wanted = scenarios.filter(({ program }) => program.startsWith(chosen.scenario))
const extent = {
  terminations: wholeNumber('terminations'),
  workers: 100,
  rounds: 8,
  ends: 5,
  loopMs: 2000,
  appends: 1000,
  seed: wholeNumber('seed'),
}
if (runtimes.length === 0 || wanted.length === 0) stop('no runtime or no scenario matches the arguments')

console.log(`seed ${extent.seed}`)
const commands = runtimes.map((runtime) => ({ ...runtime, command: obtain(runtime) }))
const project = packedProject()
mkdirSync(directDirectory(), { recursive: true })
const scratch = mkdtempSync(join(directDirectory(), 'runtimes-'))
const count = { passed: 0, failed: 0, skipped: 0 }
const suite = { passed: 0, failed: 0, skipped: 0 }
let terminations = 0
process.on('exit', () => {
  for (const folder of [project, scratch]) rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

for (const runtime of commands) {
  for (const scenario of wanted) {
    const { state, output, seconds } = await runScenario(scenario, runtime, { programs: project, scratch, extent })
    count[state] += 1
    if (state === 'passed') terminations += JSON.parse(output).busy ?? 0
    const cells = [`${runtime.name} ${runtime.version}`.padEnd(15), scenario.name.padEnd(56), state.padEnd(8)]
    console.log(`${cells.join('')}${seconds.toFixed(1).padStart(6)} s  ${output}`)
  }
}
const done = count.passed + count.failed
if (chosen.suite) for (const runtime of commands.filter(({ name }) => SUITE.has(name))) await runSuite(runtime)
const tests = chosen.suite
  ? `, the suite: ${suite.passed} passed, ${suite.failed} failed, ${suite.skipped} skipped`
  : ''
const result =
  `runtimes: ${runtimes.length} runtimes, ${done} scenarios, ${terminations} terminations, ${count.failed} failures, ` +
  `${count.skipped} skipped, seed ${extent.seed}${tests}`
console.log(result)
if (chosen.record) record('runtimes', thisMachine(), result)
process.exitCode = count.failed + suite.failed > 0 || count.passed === 0 ? 1 : 0

/** Runs the TypeScript suite of this checkout, shows what it prints, and counts its tests. */
async function runSuite({ name, version, command }) {
  const PATH = `${dirname(command)}${delimiter}${process.env.PATH}`
  const isOld = Number.parseInt(version, 10) < 24
  const NODE_OPTIONS = isOld ? `--import=${pathToFileURL(join(root, 'scripts/using.mjs'))}` : process.env.NODE_OPTIONS
  const child = spawn(command, [join(root, 'scripts/test.mjs'), 'ts'], {
    cwd: root,
    env: { ...process.env, PATH, NODE_OPTIONS },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let last = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    process.stdout.write(text)
    last = (last + text).slice(-200)
  })
  await new Promise((resolve) => child.on('close', resolve))
  const [line = 'no result', passed = 0, failed = 1, skipped = 0] =
    /(\d+) passed, (\d+) failed, (\d+) skipped\s*$/.exec(last) ?? []
  console.log(`${name} ${version}: the suite: ${line.trim()}`)
  suite.passed += Number(passed)
  suite.failed += Number(failed)
  suite.skipped += Number(skipped)
}

/**
 * A project outside the checkout, with the package installed as npm would publish it, and the
 * programs.
 */
function packedProject() {
  const tarballs = pack()
  const folder = install(tarballs.root, tarballs.platform)
  tarballs.remove()
  for (const program of globSync(join(root, '__test__/runtimes/*.mjs')))
    cpSync(program, join(folder, basename(program)))
  return folder
}

function wholeNumber(name) {
  const value = Number(chosen[name])
  if (!Number.isSafeInteger(value) || value < 1) stop(`--${name} must be a whole number, 1 or more`)
  return value
}

function stop(message) {
  process.stderr.write(`deepring: ${message}\n`)
  process.exit(1)
}
