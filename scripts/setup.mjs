// Prepares a checkout, then starts the given script under the development Node.
//
//   node scripts/setup.mjs                       install and build only
//   node scripts/setup.mjs SCRIPT [ARGUMENT...]  the same, then run SCRIPT
//
// This file is plain JavaScript because it runs first in a fresh clone, on the machine's own Node.
// It only installs and builds. SCRIPT then runs in a new process with node_modules/.bin first in
// PATH, because `npm run` has put the system's Node there before the development Node existed.
// DEEPRING_NODE names another executable for SCRIPT, such as a newer Node under test.
//
// Each step decides by itself whether it has work. The installed tree is compared with
// package-lock.json entry by entry (not by time stamps, which `git checkout` and `npm install` set
// in either order). cargo knows what is stale, and tsc takes about a second.

import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const bin = join(root, 'node_modules', '.bin')
const environment = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}` }

requireTools()
if (!installed()) {
  // Twice: npm repeats a download that fails, but not that of Node itself, which its package makes when it is installed.
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], 'installing the development dependencies', 2)
  if (!installed())
    stop(
      '`npm ci` succeeded, but node_modules still differs from package-lock.json. Remove node_modules and try again.',
    )
}
run('npm', ['run', '--silent', 'build:native'], 'building the native binding')
run('npm', ['run', '--silent', 'build:ts'], 'compiling the TypeScript sources')

const [script, ...rest] = process.argv.slice(2)
if (script) start(process.env.DEEPRING_NODE || join(bin, 'node'), [join(root, script), ...rest])

/** Checks for the tools that package.json cannot install, before anything is downloaded. */
function requireTools() {
  // The versions of `engines` in package.json: those where `require` takes ES modules.
  const [major, minor] = process.versions.node.split('.').map(Number)
  const supported = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)
  if (!supported) stop(`Node ${process.versions.node} is too old; deepring needs 20.19, 22.12 or newer.`)
  if (spawnSync('cargo', ['--version']).error)
    stop('`cargo` is not in PATH; install Rust (https://rustup.rs) to build the engine.')
}

/**
 * Whether node_modules holds exactly what package-lock.json asks for, according to npm's own record
 * of the installed tree.
 */
function installed() {
  const record = join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(record) || !existsSync(join(bin, 'node'))) return false
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  const found = JSON.parse(readFileSync(record, 'utf8')).packages
  const paths = new Set([...Object.keys(wanted), ...Object.keys(found)])
  paths.delete('') // the project itself
  for (const path of paths) {
    if (!wanted[path]) return false
    // An optional package can be absent, because it is for another platform.
    if (!found[path] && wanted[path].optional) continue
    if (found[path]?.version !== wanted[path].version || found[path]?.integrity !== wanted[path].integrity) return false
  }
  return true
}

function run(command, parameters, purpose, tries = 1) {
  process.stderr.write(`deepring: ${purpose}\n`)
  const { status, error } = spawnSync(command, parameters, { cwd: root, env: environment, stdio: ['ignore', 2, 2] })
  if (!error && status === 0) return
  if (tries > 1) run(command, parameters, purpose, tries - 1)
  else stop(`${purpose} failed (${error ? error.message : `\`${command} ${parameters.join(' ')}\``})`)
}

/** Runs a program in place of this one: same terminal, same signals, same exit status. */
function start(command, parameters) {
  const child = spawn(command, parameters, { env: environment, stdio: 'inherit' })
  // The terminal sends an interrupt to both processes. This one survives it to report how the child
  // ended. Other signals are passed on.
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('error', (error) => stop(`${command} could not be started: ${error.message}`))
  child.on('close', (status, signal) => process.exit(status ?? 128 + constants.signals[signal]))
}

function stop(message) {
  process.stderr.write(`deepring: ${message}\n`)
  process.exit(1)
}
