// Runs the Rust suite and the TypeScript suite, and ends with one line that counts both:
// `N passed, N failed, N skipped`.
//
//   npm test                          both
//   npm run test:rust                 cargo only
//   npm run test:rust -- ARGUMENT...  only `cargo test --workspace` with these arguments
//   npm run test:ts                   ava only
//   npm run test:ts -- FILE...        ava with these arguments
//
// Tests do direct I/O, so they need a directory whose file system supports O_DIRECT. They find it
// in DEEPRING_TEST_DIR. If that is not set, a temporary directory under target/ is made for the run
// and removed afterwards. It lies on the disk of the checkout, while the system's temporary
// directory is often memory. DEEPRING_BACKEND=threads runs everything on the other backend.
//
// The simulation, the replay of commits and the crashes with planted bugs share a separate build,
// because they need the feature `sim`, and all other tests run on the engine as it ships. The crate
// `deepring-tier` is a workspace of its own, with its own build.
//
// The count comes from what the runners print (see count.ts), and their exit statuses are checked
// against it. A runner that fails without a failed test (it did not compile, it crashed) counts as
// one failure. A run without any test fails.

import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, closeSync, constants, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { constants as osConstants } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { stripVTControlCharacters } from 'node:util'
import { cargoCounter, cargoReports, tapCounter, tapReports } from './count.ts'
import { FEATURES, TIER } from './crates.mjs'

const root = join(import.meta.dirname, '..')
const [only, ...parameters] = process.argv.slice(2)
if (only !== undefined && only !== 'rust' && only !== 'ts') {
  console.error('Usage: npm test, npm run test:rust -- [ARGUMENT...], npm run test:ts -- [FILE...]')
  process.exit(1)
}

// What a user of this machine has tuned changes no test.
const environment = { ...process.env, DEEPRING_TEST_DIR: testDirectory(), DEEPRING_PROFILE: 'off' }
const count = { passed: 0, failed: 0, skipped: 0 }
const reports = []
const cargo = [cargoCounter(count), cargoReports(reports)]
const tap = [tapCounter(count), tapReports(reports)]

if (only !== 'ts') {
  await suite('cargo', ['test', '--workspace', '--features', FEATURES.join(), '--no-fail-fast', ...parameters], cargo)
  // Arguments select other tests.
  if (parameters.length === 0) {
    const packages = ['deepring', 'deepring-tensors', 'deepring-trials']
    const simulation = [
      ...packages.flatMap((name) => ['-p', name]),
      '--features',
      'deepring/sim,deepring-tensors/sim,deepring-trials/planted',
      '--no-fail-fast',
    ]
    const tests = ['sim', 'recorded', 'replayed', 'swapped', 'simulated'].flatMap((name) => ['--test', name])
    await suite('cargo', ['test', ...simulation, ...tests], cargo)
    await suite('cargo', ['test', ...simulation, '--test', 'crash', '--', 'a_save', 'a_checkpoint'], cargo)
    // The models count as tests, because this prints cargo's own line for them.
    await suite(process.execPath, [join(root, 'scripts/loom.mjs')], cargo)
    await tier()
  }
}
if (only !== 'rust') {
  const ava = join(root, 'node_modules/ava/entrypoints/cli.js')
  await suite(process.execPath, [ava, '--tap', ...parameters], tap)
}

// Thousands of lines above, and in a log that keeps only its end nowhere, without this.
for (const report of reports) console.log(`\n${report}`)
console.log(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0

/** Runs the tests of the crate `deepring-tier`, if this compiler is new enough for it. */
async function tier() {
  const needed = /^rust-version = "(.*)"/m.exec(readFileSync(join(root, TIER.manifest), 'utf8'))[1]
  const [found] = /[\d.]+/.exec(execFileSync('rustc', ['--version'], { cwd: root, encoding: 'utf8' }))
  if (found.localeCompare(needed, 'en', { numeric: true }) < 0) {
    count.skipped += 1
    console.log(`\nskipped: deepring-tier: it needs Rust ${needed}, and this is ${found}`)
    return
  }
  await suite('cargo', ['test', ...TIER.parameters, '--no-fail-fast'], cargo)
}

/** Runs one runner, shows its output as it comes, and counts each of its lines. */
async function suite(command, runnerParameters, readers) {
  const failedBefore = count.failed
  const child = spawn(command, runnerParameters, { cwd: root, env: environment, stdio: ['ignore', 'pipe', 'inherit'] })
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    process.stdout.write(text)
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    for (const line of lines) for (const read of readers) read(stripVTControlCharacters(line))
  })
  const ended = await new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', (status, signal) =>
      resolve(status === 0 ? '' : signal ? `signal ${signal}` : `exit status ${status}`),
    )
  })
  if (ended && count.failed === failedBefore) {
    count.failed += 1
    reports.push(`deepring: the runner itself failed (${ended}): ${command} ${runnerParameters.join(' ')}`)
  }
}

/**
 * A directory for tests that do direct I/O. One made here is removed when this process exits,
 * interrupted or not.
 */
function testDirectory() {
  let path = process.env.DEEPRING_TEST_DIR
  if (!path) {
    mkdirSync(join(root, 'target'), { recursive: true })
    path = mkdtempSync(join(root, 'target', 'test-'))
    // Some tests continue as another user, who must be able to access their files.
    chmodSync(path, 0o755)
    process.on('exit', () => rmSync(path, { recursive: true, force: true }))
    for (const signal of ['SIGINT', 'SIGTERM'])
      process.once(signal, () => process.exit(128 + osConstants.signals[signal]))
  }
  const probe = join(path, 'direct-probe')
  try {
    closeSync(openSync(probe, constants.O_RDWR | constants.O_CREAT | (constants.O_DIRECT ?? 0), 0o600))
  } catch (error) {
    console.error(
      `deepring: ${path} does not support direct I/O (${error.code}); set DEEPRING_TEST_DIR to a directory on a disk`,
    )
  }
  rmSync(probe, { force: true })
  return path
}
