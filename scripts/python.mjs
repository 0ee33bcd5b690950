// Programs that are Python packages, at exact versions, in an environment of their own under target/.

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

const root = join(import.meta.dirname, '..')

/**
 * The folder with the programs of these packages, which are installed once into target/NAME.
 *
 * @throws if there is no Python 3, or a package cannot be installed.
 */
export function pythonPrograms(name, packages) {
  const folder = join(root, 'target', name)
  const bin = join(folder, 'bin')
  // Written last, so that what was interrupted is made again.
  const mark = join(folder, '.complete')
  if (existsSync(mark) && readFileSync(mark, 'utf8') === packages.join('\n')) return bin
  process.stderr.write(`deepring: installing ${packages.join(', ')}\n`)
  rmSync(folder, { recursive: true, force: true })
  execFileSync('python3', ['-m', 'venv', folder], { stdio: ['ignore', 2, 2] })
  const parameters = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...packages]
  execFileSync(join(bin, 'python'), parameters, { stdio: ['ignore', 2, 2] })
  writeFileSync(mark, packages.join('\n'))
  return bin
}
