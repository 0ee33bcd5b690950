// Runs the engine under AddressSanitizer, and ends with one line:
// `asan: N passed, N failed, N skipped`. Exit status 1 if anything failed.
//
//   npm run asan                     unit tests, integration tests on `threads`, simulation
//   npm run asan -- TEST...          these integration tests only, such as `exact` or `sim`
//
// Needs rustup with a nightly toolchain. The sanitizer sees the engine's own reads, writes and
// frees. It does not see the kernel's direct transfers. First a program with a planted bug
// (crates/deepring/examples/freed_early.rs) must be reported, because a sanitizer that is not
// active reports nothing either.
//
// Only the unit tests are checked for leaks. The others leak on purpose: memory that outlives a
// test's threads, canaries, and what a lost or refused ring could still write to.
//
// ThreadSanitizer is left out, because with the standard library as shipped it reports correct
// code. That library is not compiled for it. Where a thread acquires a lock inside `Condvar::wait`
// or after contention, the sanitizer does not see the acquisition, nor the fence of the last `Arc`.
// Twenty lines that pass boxes under a `Mutex` and a `Condvar` cause four to six reports. This
// engine's unit tests and tests/exact.rs caused 719 (nightly 2026-05-19), and those that were
// examined lie under a lock, behind the last `Arc`, or in a channel. Suppressing them means naming
// every function that runs under a lock, and with them every race that could be found. A library
// compiled for it needs rustup's component rust-src and -Zbuild-std. What it would look for,
// src/loom look for: orders of steps, on the engine's own code.

import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'

/** The tests of the promises; the others need more than the engine, or measure time. */
const TESTS = ['bounded', 'exact', 'faults', 'honest', 'neighbours', 'owned', 'storm', 'sim']
/** They measure the memory of an operation, and the sanitizer adds to it. */
const WEIGHING = [
  'a_million_queued_reads_take_at_most_512_bytes_each',
  'operations_in_the_caller_s_hands_take_at_most_512_bytes_each',
]
const TRIPLE = 'x86_64-unknown-linux-gnu'

const root = join(import.meta.dirname, '..')
const chosen = process.argv.slice(2)
const target = join(root, 'target/asan')
mkdirSync(target, { recursive: true })
const place = process.env.DEEPRING_TEST_DIR ?? mkdtempSync(join(root, 'target/asan-'))
// Some tests continue as another user, who must be able to access their files.
if (!process.env.DEEPRING_TEST_DIR) {
  chmodSync(place, 0o755)
  process.on('exit', () => rmSync(place, { recursive: true, force: true }))
}
const environment = {
  ...process.env,
  RUSTFLAGS: '-Zsanitizer=address',
  CARGO_TARGET_DIR: target,
  DEEPRING_BACKEND: 'threads',
  DEEPRING_TEST_DIR: place,
}
const cargo = (command, ...rest) => [
  '+nightly',
  command,
  '--target',
  TRIPLE,
  '-p',
  'deepring',
  '--features',
  'sim',
  ...rest,
]
const count = { passed: 0, failed: 0, skipped: 0 }

if (chosen.length === 0) {
  await plantedBug()
  await suite(['--lib'], true)
}
for (const test of chosen.length > 0 ? chosen : TESTS) await suite(['--test', test], false)

console.log(`asan: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0

/** The program with a planted bug. It counts as a test that passes if it is reported. */
async function plantedBug() {
  const { stderr, status } = spawnSync('cargo', cargo('run', '--example', 'freed_early'), {
    cwd: root,
    env: environment,
    encoding: 'utf8',
  })
  const reported = status !== 0 && stderr.includes('AddressSanitizer: heap-use-after-free')
  count[reported ? 'passed' : 'failed'] += 1
  console.log(`the planted use after free is ${reported ? 'reported' : `not reported:\n${stderr}`}`)
}

/**
 * Runs some tests under the sanitizer. A report ends the program that runs them, and counts as one
 * failure.
 */
async function suite(what, leaks) {
  const ASAN_OPTIONS = `detect_leaks=${leaks ? 1 : 0}`
  const parameters = cargo('test', '--no-fail-fast', ...what, '--', ...WEIGHING.flatMap((name) => ['--skip', name]))
  const child = spawn('cargo', parameters, {
    cwd: root,
    env: { ...environment, ASAN_OPTIONS },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const failedBefore = count.failed
  createInterface({ input: child.stdout }).on('line', (line) => {
    console.log(line)
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
    if (!result) return
    count.passed += Number(result[1])
    count.failed += Number(result[2])
    count.skipped += Number(result[3])
  })
  const ended = await new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', (status, signal) => resolve(status === 0 ? '' : (signal ?? `exit status ${status}`)))
  })
  if (ended !== '' && count.failed === failedBefore) {
    count.failed += 1
    console.error(`deepring: ${what.join(' ')} ended with ${ended}`)
  }
}
