// Files of Debian packages. `unpack` puts them under target/: nothing is installed on the machine, so it needs no root, and
// packages of another processor are as good as those of this one. `install` installs them, as root.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

const base = join(import.meta.dirname, '..', 'target', 'debian')

/** apt with lists and a cache of its own. It must not become another user, who cannot write into a checkout. */
const SETTINGS = [
  ['APT::Sandbox::User', 'root'],
  ['APT::Architectures', 'amd64,arm64'],
  ['Dir::State::lists', join(base, 'lists')],
  ['Dir::Cache', join(base, 'cache')],
].flatMap(([name, value]) => ['-o', `${name}=${value}`])

/** Installs packages on this machine, if this is root on Debian. Whoever needs them looks afterwards whether they are there. */
export function install(...packages) {
  if (process.getuid?.() !== 0) return
  process.stderr.write(`deepring: installing ${packages.join(', ')}\n`)
  const words = ['install', '-y', '-qq', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=600', ...packages]
  const options = { stdio: ['ignore', 2, 2], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } }
  // Lists that could not be fetched anew may do.
  for (const parameters of [['update', '-qq'], words]) spawnSync('apt-get', parameters, options)
}

/**
 * Unpacks packages, and those of their dependencies whose names `follow` matches, and returns the folder that is then their
 * root. It is made once, and has the name `name`.
 *
 * @throws if this is not Debian, or a package cannot be downloaded.
 */
export function unpack(name, packages, { architecture = 'amd64', follow = /^$/ } = {}) {
  const folder = join(base, name)
  // Written last, so that what was interrupted is made again.
  const mark = join(folder, '.complete')
  if (existsSync(mark)) return folder
  if (spawnSync('apt-get', ['--version']).error) throw new Error('apt-get is missing: this needs a Debian system')
  rmSync(folder, { recursive: true, force: true })
  for (const path of [folder, join(base, 'lists', 'partial'), join(base, 'cache', 'archives', 'partial')])
    mkdirSync(path, { recursive: true })
  const archives = join(base, `${name}.archives`)
  rmSync(archives, { recursive: true, force: true })
  mkdirSync(archives)
  const closure = () => withDependencies(packages, architecture, follow).map((found) => `${found}:${architecture}`)
  const download = () =>
    execFileSync('apt-get', [...SETTINGS, 'download', '-qq', ...closure()], { cwd: archives, stdio: ['ignore', 2, 2] })
  process.stderr.write(`deepring: downloading ${packages.join(', ')} (${architecture})\n`)
  // The lists can be old or absent; they are fetched only then.
  try {
    if (readdirSync(join(base, 'lists')).length < 3) throw new Error('no lists')
    download()
  } catch {
    execFileSync('apt-get', [...SETTINGS, 'update', '-qq'], { stdio: ['ignore', 2, 2] })
    download()
  }
  for (const archive of readdirSync(archives)) execFileSync('dpkg-deb', ['-x', join(archives, archive), folder])
  rmSync(archives, { recursive: true })
  writeFileSync(mark, '')
  return folder
}

function withDependencies(packages, architecture, follow) {
  const found = new Set(packages)
  for (const name of found) {
    const parameters = ['depends', '--important', `${name}:${architecture}`]
    const depends = execFileSync('apt-cache', [...SETTINGS, ...parameters], { encoding: 'utf8' })
    for (const [, other] of depends.matchAll(/Depends: ([a-z\d][\w.+-]*)/g)) if (follow.test(other)) found.add(other)
  }
  return [...found]
}
