// Programs that checks need and a checkout does not: other versions of Node, Bun, Deno, package managers. All are npm packages
// that contain them. Each is installed once, at an exact version, into target/runtimes.

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

const root = join(import.meta.dirname, '..')

/** The newest version of each line that deepring supports. */
export const RUNTIMES = [
  { name: 'node20', host: 'node', version: '20.20.2' },
  { name: 'node22', host: 'node', version: '22.23.3' },
  { name: 'node24', host: 'node', version: '24.21.0' },
  { name: 'node26', host: 'node', version: '26.10.0' },
  { name: 'bun', host: 'bun', version: '1.4.5' },
  { name: 'deno', host: 'deno', version: '2.9.6' },
]

/**
 * The path of a program, installed if it is missing: `host` is its name, and `from` the package that contains it, if that has
 * another name.
 *
 * @throws if it cannot be installed, or does not run.
 */
export function obtain({ name, host, version, from = host }) {
  const folder = join(root, 'target', 'runtimes', `${name}-${version}`)
  const command = join(folder, 'node_modules', '.bin', host)
  if (works(command, version)) return command
  process.stderr.write(`deepring: installing ${from} ${version}\n`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  // Install scripts of these packages put the binaries in place. npm runs them only for the packages named here.
  const manifest = { private: true, dependencies: { [from]: version }, allowScripts: { [from]: true } }
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest))
  const parameters = ['install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error']
  execFileSync('npm', parameters, { cwd: folder, stdio: ['ignore', 2, 2], timeout: 300_000 })
  if (!works(command, version)) throw new Error(`${from} ${version} was installed, but does not run`)
  return command
}

/** Whether a program is there and has the right version. */
function works(command, version) {
  if (!existsSync(command)) return false
  return execFileSync(command, ['--version'], { encoding: 'utf8' }).includes(version)
}
